"""The session machine under secure aggregation: the steps of each leg, refusals, whole lives."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import BadMessage, Fault
from unisono.base.ids import Digest, RunId
from unisono.client.session import (
    Answering,
    Attempt,
    BackingOff,
    Busy,
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
    Leg,
    Lost,
    Masked,
    Masking,
    Objection,
    Polling,
    Refused,
    Rejected,
    Renewing,
    Replying,
    Secure,
    Sending,
    State,
    Trained,
    Training,
    Uploading,
    Work,
    Wrapped,
    advance,
    leg_of,
)
from unisono.client.session.legs import STEPS
from unisono.secagg.shared.messages import Closing

RUN, MODEL, PLAN = RunId("r-0001"), Digest("a" * 64), Digest("c" * 64)
AT = Attempt(RUN, 1, 1)
MASKED = Masked("m", Digest("d" * 64), 10)
LEGS: tuple[Leg, ...] = ("invitation", "roster", "deal", "survivors", "quorum", "closing")


def order(leg: Leg, attempt: Attempt = AT) -> Secure:
    return Secure(attempt, "train", PLAN, MODEL, 100, 60.0, (), (), b"", leg)


def life(leg: Leg, known: Known) -> list[str]:
    """Return the states that a leg goes through when all goes well."""
    state = advance(Polling(3), Instructed(7, order(leg), known), 0.0)
    names = []
    while not isinstance(state, Polling):
        names.append(type(state).__name__)
        event: Event = Done()
        if isinstance(state, Training):
            event = Trained(None)
        elif isinstance(state, Masking):
            event = Wrapped(MASKED)
        state = advance(state, event, 0.0)
    assert state == Polling(7)
    return names


@pytest.mark.parametrize(
    ("leg", "known", "names"),
    [
        ("invitation", Known(), ["Replying", "Downloading"]),
        ("invitation", Known(cached=True), ["Replying"]),
        ("roster", Known(), ["Downloading", "Replying", "Training"]),
        ("roster", Known(cached=True), ["Replying", "Training"]),
        ("roster", Known(cached=True, stored=True), ["Replying"]),
        ("roster", Known(stored=True), ["Downloading", "Replying"]),
        ("deal", Known(), ["Downloading", "Training", "Masking", "Sending", "Replying"]),
        ("deal", Known(cached=True), ["Training", "Masking", "Sending", "Replying"]),
        ("deal", Known(stored=True), ["Masking", "Sending", "Replying"]),
        ("survivors", Known(), ["Replying"]),
        ("quorum", Known(), ["Replying"]),
        ("closing", Known(), ["Replying"]),
        *((leg, Known(over=True), []) for leg in LEGS),
        *((leg, Known(Objection("c", "r"), cached=True), ["Answering"]) for leg in LEGS),
    ],
)
def test_the_steps_of_a_leg(leg: Leg, known: Known, names: list[str]) -> None:
    assert life(leg, known) == names


STATES: tuple[Replying | Masking | Sending | Training | Downloading, ...] = (
    *(Replying(7, order(leg)) for leg in LEGS),
    Downloading(7, order("roster")),
    Training(7, order("roster")),
    Masking(7, order("deal")),
    Sending(7, order("deal"), MASKED),
)


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_a_refusal_of_this_site_is_said_and_the_next_instruction_waited_for(
    state: Replying | Masking | Sending | Training | Downloading,
) -> None:
    if isinstance(state, Downloading):
        return
    after = advance(state, Failed("no_quorum", "1 of 3", b"complaint"), 0.0)
    assert after == Answering(7, Fails(AT, "no_quorum", "1 of 3", complaint=b"complaint"))
    assert advance(after, Done(), 0.0) == Polling(7)


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_what_the_coordinator_says_to_it(state: State) -> None:
    assert advance(state, Refused("wrong_phase", "over"), 0.0) == Polling(7)
    assert advance(state, Refused("hello_first", "who"), 0.0) == Greeting()
    assert advance(state, Refused("not_enrolled", "revoked"), 0.0) == Left("not_enrolled", "revoked")
    blamed = advance(state, Rejected("second_statement", "differs"), 0.0)
    assert blamed == Answering(7, Fails(AT, "second_statement", "differs"))
    later = advance(state, Busy(3.0, 0.5), 10.0)
    assert isinstance(later, BackingOff)
    assert later.then == state
    lost = advance(state, Lost(0.5), 10.0)
    assert isinstance(lost, BackingOff)
    assert isinstance(lost.then, Greeting)
    assert advance(state, LeaveAsked(), 0.0) == Leaving()


def test_a_damaged_vector_is_made_again() -> None:
    known = Known(stored=True)
    again = advance(Masking(7, order("deal"), known), Done(), 0.0)
    assert again == Downloading(7, order("deal"), Known())
    cached = advance(Masking(7, order("deal"), replace(known, cached=True)), Done(), 0.0)
    assert cached == Training(7, order("deal"), Known(cached=True))


def test_a_certificate_is_renewed_between_two_legs() -> None:
    state = advance(Polling(3), Instructed(7, order("deal"), Known(stored=True), renew=True), 0.0)
    assert isinstance(state, Renewing)
    assert advance(state, Refused("refused", "too early"), 0.0) == Masking(
        7, order("deal"), Known(stored=True)
    )


def test_a_sealed_update_has_no_legs_and_a_vector_is_no_upload() -> None:
    work = Work(AT, "train", PLAN, MODEL, 100, b"{}", Digest("b" * 64), 60.0)
    with pytest.raises(Fault):
        advance(Training(7, work), Trained(None), 0.0)
    with pytest.raises(Fault):
        advance(Downloading(7, work), Wrapped(MASKED), 0.0)
    assert not isinstance(advance(Training(7, order("deal")), Trained(None), 0.0), Uploading)


def test_the_leg_follows_from_the_message() -> None:
    assert leg_of(b"") == "invitation"
    assert leg_of(Closing(MODEL).encode()) == "closing"
    for raw in (b"nonsense", b"\0" * 40):
        with pytest.raises(BadMessage):
            leg_of(raw)


FAULTS: tuple[Event | None, ...] = (None, Lost(0.5), Busy(1.0, 0.5), Refused("hello_first", "restarted"))


@dataclass
class Site:
    """A site, and a coordinator that goes on to the next leg when it has heard the answer to the last."""

    faults: list[int]
    leg: int = 0
    cached: bool = False
    stored: bool = False
    sent: bool = False
    masked: bool = False
    log: list[str] = field(default_factory=list)

    def wanted(self) -> Instruction:
        return order(LEGS[self.leg]) if self.leg < 5 else Idle()

    def do(self, state: State) -> Event:
        fault = FAULTS[self.faults.pop()] if self.faults else None
        match state:
            case BackingOff():
                return Done()
            case Greeting():
                return Lost(0.5) if fault else Greeted()
            case Polling():
                found, known = self.wanted(), Known(cached=self.cached, stored=self.stored)
                return fault or Instructed(self.leg + 1, found, known)
            case Downloading():
                self.cached = self.cached or fault is None
            case Training():
                assert self.cached
                self.log.append("train")
                self.stored = True
                return fault if isinstance(fault, Refused) else Trained(None)
            case Masking():
                assert self.stored
                self.masked = True
                return Wrapped(MASKED)
            case Sending():
                assert self.masked
                self.sent = True
            case Replying(work=work):
                assert work.leg != "deal" or self.sent
                assert work.leg != "roster" or self.cached
                if LEGS[self.leg % 6] == work.leg:  # heard, even if the reply is lost
                    self.leg += 1
        return fault or Done()


@given(st.lists(st.integers(0, 3), max_size=80))
def test_whatever_breaks_every_leg_is_answered_in_order_and_training_is_done_once(faults: list[int]) -> None:
    site, now = Site(faults), 0.0
    state: State = Greeting()
    for _ in range(400):
        if isinstance(state, BackingOff):
            now = state.until
        if isinstance(state, Polling) and site.leg == 5 and not site.faults:
            break
        state = advance(state, site.do(state), now)
    assert site.leg == 5
    assert site.log == ["train"]


EVENTS: tuple[Event, ...] = (
    Greeted(),
    *(Instructed(7, order(leg), known) for leg in LEGS for known in (Known(), Known(over=True))),
    Done(),
    Trained(None),
    Wrapped(MASKED),
    Failed("task_error", "no"),
    Refused("wrong_phase", "over"),
    Rejected("bad_signature", "no"),
    Lost(0.5),
)


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_any_events_in_any_order_are_followed_or_refused(events: list[Event]) -> None:
    state: State = Greeting()
    for event in events:
        try:
            state = advance(state, event, 0.0)
        except Fault:
            continue
        work = getattr(state, "work", None)
        if isinstance(state, Replying | Downloading | Training | Masking):
            assert type(state) in STEPS[work.leg]  # type: ignore[union-attr]
        assert not isinstance(state, Sending) or state.work.leg == "deal"
