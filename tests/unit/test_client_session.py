"""The session machine: any events in any order, and whole lives in which anything may break."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import Fault
from unisono.base.ids import Digest, RunId
from unisono.client.session import (
    Answering,
    Attempt,
    BackingOff,
    Busy,
    Consider,
    Declines,
    Done,
    Downloading,
    Event,
    Failed,
    Fails,
    Greeted,
    Greeting,
    Idle,
    Instructed,
    Instruction,
    Known,
    LeaveAsked,
    Leaving,
    Left,
    Lost,
    Objection,
    Pace,
    Polling,
    Preparing,
    Refused,
    Rejected,
    Renewing,
    SendingModel,
    SendModel,
    State,
    Takes,
    Trained,
    Training,
    Update,
    UpdateKey,
    Uploading,
    Work,
    advance,
)
from unisono.client.session.backoff import delay

RUN, MODEL, SPEC = RunId("r-0001"), Digest("a" * 64), Digest("b" * 64)
OBJECTION = Objection("outside_policy", "policy min_cohort = 5; the cohort has 3")


def work(round_: int = 1, attempt: int = 1) -> Work:
    return Work(Attempt(RUN, round_, attempt), "train", Digest("c" * 64), MODEL, 100, b"{}", SPEC, 60.0)


def update(of: Work) -> Update:
    return Update(of.key, "u", Digest("d" * 64), 10)


WORK = work()
UPDATE = update(WORK)
CONSIDER = Consider(RUN, b"{}", Digest("c" * 64), 3)
EVENTS: tuple[Event, ...] = (
    Greeted(),
    Instructed(7, Idle()),
    Instructed(7, CONSIDER),
    Instructed(7, CONSIDER, Known(OBJECTION)),
    Instructed(7, CONSIDER, Known(prepared=True), renew=True),
    Instructed(7, SendModel(RUN, MODEL)),
    Instructed(7, WORK),
    Instructed(7, WORK, Known(cached=True)),
    Instructed(7, WORK, Known(finished=UPDATE)),
    Instructed(7, WORK, Known(OBJECTION)),
    Done(),
    Trained(UPDATE),
    Failed("task_error", "the task raised an error"),
    Refused("wrong_phase", "Uploaded is not accepted while the round is aggregating"),
    Refused("hello_first", "say hello"),
    Refused("not_enrolled", "revoked"),
    Rejected("bad_update", "its header is short"),
    Busy(2.0, 0.5),
    Lost(0.5),
    LeaveAsked(),
)
STATES: tuple[State, ...] = (
    Greeting(),
    Polling(),
    Renewing(7, WORK, Known(cached=True)),
    Preparing(7, RUN),
    Preparing(7, RUN, MODEL),
    Answering(7, Takes(RUN)),
    Answering(7, Declines(RUN, "c", "r")),
    Answering(7, Fails(WORK.attempt, "c", "t")),
    Downloading(7, WORK),
    Training(7, WORK),
    Uploading(7, WORK, UPDATE),
    SendingModel(7, RUN, MODEL),
    Leaving(),
    BackingOff(5.0, Polling(7)),
    Left(),
)


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_any_events_in_any_order_are_followed_or_refused(events: list[Event]) -> None:
    state: State = Greeting()
    for event in events:
        try:
            after = advance(state, event, 0.0)
        except Fault:
            continue
        assert not isinstance(state, Left)
        state = after
        if isinstance(state, Polling):
            assert state.cursor in {0, 7}


@pytest.mark.parametrize("state", [s for s in STATES if not isinstance(s, Left)], ids=repr)
def test_leaving_is_possible_from_everywhere_and_ends(state: State) -> None:
    after = advance(state, LeaveAsked(), 0.0)
    while not isinstance(after, Left):
        assert isinstance(after, Leaving)
        after = advance(after, Lost(0.1), 0.0)
    assert after == Left()


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_nothing_happens_after_the_end(event: Event) -> None:
    with pytest.raises(Fault):
        advance(Left(), event, 0.0)


WORKING = (STATES[5], STATES[6], STATES[7], *STATES[8:12])


@pytest.mark.parametrize("state", WORKING, ids=repr)
def test_a_refusal_leads_to_the_next_instruction(state: State) -> None:
    assert advance(state, Refused("wrong_phase", "over"), 0.0) == Polling(7)


@pytest.mark.parametrize("state", WORKING, ids=repr)
def test_a_coordinator_that_was_restarted_is_greeted(state: State) -> None:
    assert advance(state, Refused("hello_first", "who are you"), 0.0) == Greeting()


@pytest.mark.parametrize("state", [*WORKING, Greeting(3), Polling(7)], ids=repr)
def test_a_lost_connection_waits_and_greets_again(state: State) -> None:
    after = advance(state, Lost(0.0), 10.0)
    assert isinstance(after, BackingOff)
    assert after.until > 10.0
    assert isinstance(advance(after, Done(), after.until), Greeting)


@pytest.mark.parametrize("state", WORKING, ids=repr)
def test_a_busy_coordinator_is_asked_the_same_again_after_the_time_it_named(state: State) -> None:
    after = advance(state, Busy(3.0, 0.5), 10.0)
    assert isinstance(after, BackingOff)
    assert 13.0 <= after.until < 14.0
    assert advance(after, Done(), after.until) == state


@pytest.mark.parametrize("code", ["not_enrolled", "bad_credentials"])
@pytest.mark.parametrize("state", [*WORKING, Greeting(), Polling()], ids=repr)
def test_what_only_a_person_can_change_ends_the_session(state: State, code: str) -> None:
    assert advance(state, Refused(code, "revoked on 3 May"), 0.0) == Left(code, "revoked on 3 May")


def test_no_common_protocol_ends_the_session() -> None:
    assert advance(Greeting(), Refused("refused", "no common protocol"), 0.0) == Left(
        "refused", "no common protocol"
    )


@pytest.mark.parametrize(
    ("instruction", "known", "expected"),
    [
        (Idle(), Known(), Polling(7)),
        (CONSIDER, Known(), Preparing(7, RUN)),
        (CONSIDER, Known(prepared=True), Answering(7, Takes(RUN))),
        (
            CONSIDER,
            Known(OBJECTION, prepared=True),
            Answering(7, Declines(RUN, OBJECTION.code, OBJECTION.reason)),
        ),
        (SendModel(RUN, MODEL), Known(), Preparing(7, RUN, MODEL)),
        (SendModel(RUN, MODEL), Known(cached=True), SendingModel(7, RUN, MODEL)),
        (WORK, Known(), Downloading(7, WORK)),
        (WORK, Known(cached=True), Training(7, WORK)),
        (WORK, Known(finished=UPDATE, cached=True), Uploading(7, WORK, UPDATE)),
        (
            WORK,
            Known(OBJECTION, finished=UPDATE),
            Answering(7, Fails(WORK.attempt, OBJECTION.code, OBJECTION.reason)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_instruction_leads_to(instruction: Instruction, known: Known, expected: State) -> None:
    assert advance(Polling(3), Instructed(7, instruction, known), 0.0) == expected


def test_a_certificate_is_renewed_once_and_then_the_work_goes_on() -> None:
    asked = Instructed(7, WORK, Known(cached=True), renew=True)
    state = advance(Polling(3), asked, 0.0)
    assert state == Renewing(7, WORK, Known(cached=True))
    greeting = advance(state, Done(), 0.0)
    polling = advance(greeting, Greeted(), 0.0)
    assert polling == Polling(0, renewed=True)
    assert advance(polling, asked, 0.0) == Training(7, WORK)  # a coordinator that repeats itself is no loop


def test_a_refused_renewal_does_not_stop_the_work() -> None:
    state = Renewing(7, WORK, Known(cached=True))
    assert advance(state, Refused("refused", "too early"), 0.0) == Training(7, WORK)


def test_an_update_that_the_coordinator_finds_bad_is_forgotten_and_reported() -> None:
    state = advance(Uploading(7, WORK, UPDATE), Rejected("corrupt", "digest"), 0.0)
    assert state == Answering(7, Fails(WORK.attempt, "corrupt", "digest", forget=UPDATE.key))


def test_an_update_of_another_round_cannot_be_sent_for_this_one() -> None:
    with pytest.raises(Fault):
        advance(Training(7, WORK), Trained(update(work(2))), 0.0)


FAULTS: tuple[Event | None, ...] = (None, Lost(0.5), Busy(1.0, 0.5), Refused("hello_first", "restarted"))


@dataclass
class Life:
    """A site and a coordinator that wants some rounds done, in which anything may fail at any time."""

    rounds: int
    faults: list[int]
    vault: dict[UpdateKey, Update] = field(default_factory=dict)
    cached: bool = False
    trained: list[UpdateKey] = field(default_factory=list)
    counted: set[int] = field(default_factory=set)

    def fault(self) -> Event | None:
        choice = self.faults.pop() if self.faults else 0
        return FAULTS[choice]

    def wanted(self) -> Instruction:
        open_rounds = [n for n in range(1, self.rounds + 1) if n not in self.counted]
        return work(open_rounds[0]) if open_rounds else Idle()

    def do(self, state: State) -> Event:
        """Do what a driver would; a fault strikes before the work or, a lost reply, after it."""
        broken = self.fault()
        match state:
            case BackingOff():
                return Done()
            case Greeting():
                return Lost(0.5) if broken else Greeted()
            case Polling():
                found = self.wanted()
                known = Known()
                if isinstance(found, Work):
                    known = Known(finished=self.vault.get(found.key), cached=self.cached)
                return broken or Instructed(9, found, known)
            case Downloading():
                self.cached = broken is None
            case Training(work=Work() as task):
                self.trained.append(task.key)
                self.vault[task.key] = update(task)
                return broken if isinstance(broken, Refused) else Trained(self.vault[task.key])
            case Uploading(work=task):
                self.counted.add(task.attempt.round)
        return broken or Done()


@given(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=60))
def test_whatever_breaks_no_finished_update_is_trained_again_and_every_round_is_served(
    rounds: int, faults: list[int]
) -> None:
    life, now = Life(rounds, faults), 0.0
    current: State = Greeting()
    for _ in range(400):
        if isinstance(current, BackingOff):
            now = current.until
        if isinstance(current, Polling) and len(life.counted) == rounds and not life.faults:
            break
        current = advance(current, life.do(current), now)
    assert life.counted == set(range(1, rounds + 1))
    assert len(life.trained) == len(set(life.trained)) == rounds


@given(st.integers(0, 200), st.floats(0, 1, exclude_max=True), st.floats(0, 600))
def test_delays_are_bounded_spread_and_at_least_what_was_asked(
    tries: int, roll: float, at_least: float
) -> None:
    seconds = delay(tries, roll, longest=30.0, at_least=at_least)
    assert at_least <= seconds <= max(30.0, 1.25 * at_least)
    assert seconds >= 0.1


def test_progress_is_told_once_a_second_and_only_when_it_moved() -> None:
    pace = Pace(0.0)
    assert not pace.due("training", 1, 0.5)
    assert pace.due("training", 1, 1.0)
    pace = pace.told("training", 1, 1.0)
    assert not pace.due("training", 1, 100.0)
    assert pace.due("writing", 1, 2.0)
