"""Runs under secure aggregation: real clients of `secagg/1` against the round machine, over every trouble.

Site i adds 1 to word i, so an opened sum shows who is in it: every word is 0 or 1, whatever was dropped,
repeated, delayed, lost or restarted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_world import Words, apply, entropy_of, identity, name_of, names

from unisono.base.errors import Refused, WrongPhase
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import sha256
from unisono.plan import Plan, digest
from unisono.secagg import client as c
from unisono.secagg.server import Revealing, open_masks
from unisono.secagg.server.faults import BadShares, Blamed
from unisono.secagg.shared.laying import spec_of
from unisono.secagg.shared.messages import Answer, Closing, Deal, Opened, Quorum, Survivors, Upload
from unisono.secagg.shared.reading import Certificate, Up, read_up
from unisono.secagg.shared.roster import Attempt, Roster, manifest_digest
from unisono.secagg.shared.spec import Spec
from unisono.server.rounds import (
    Aggregate,
    Aggregated,
    AttemptFailed,
    Ended,
    Event,
    Fact,
    Failure,
    Faulted,
    InRound,
    Joined,
    Lost,
    NotOpened,
    Returned,
    RoundPublished,
    Row,
    Run,
    RunEnded,
    Said,
    Securing,
    Step,
    TaskFailed,
    Tick,
    ToSecure,
    begin,
    decode,
    duty,
    encode,
    expects,
    next_deadline,
    pins,
    protected,
    revive,
    step,
    waiting_sentence,
)
from unisono.tensors import Entry as Tensor
from unisono.tensors import Manifest

RUN = RunId("r-0001")
MANIFEST = Manifest((Tensor("w", (40,), "F32", True),), ("accuracy", "loss"))
FIRST = Digest("11" * 32)
WAIT = 10.0


def plan_of(n: int, colluding: int = 0, **sections: dict[str, object]) -> Plan:
    rounds = {"count": 2, "attempts": 4, **sections.pop("rounds", {})}
    return Plan.model_validate(
        {
            "task": "x",
            "cohort": {"size": n, "wait_seconds": WAIT},
            "protection": {"mode": "secagg", "max_colluding": colluding},
            "rounds": rounds,
            **sections,
        }
    )


@dataclass
class Site:
    """One client: what is on its disk, over all attempts."""

    name: ClientName
    number: int
    attempt: tuple[int, int] = (0, 0)
    disk: bytes = b""
    releases: list[c.Release] = field(default_factory=list)
    sent: dict[bytes, Words] = field(default_factory=dict)  # masked vectors by digest
    refused: list[str] = field(default_factory=list)

    def save(self, data: bytes) -> None:
        self.disk = data
        found = c.decode_state(data)
        release = c.release_of(found)
        if release is not None and release not in self.releases:
            self.releases.append(release)

    def move(self, move: "c.Move[c.State]") -> bytes | None:
        return move.after(self.save)[1]

    def answer(self, world: "World", told: ToSecure) -> bytes | None:
        """What a runtime does with an instruction."""
        key, entropy = identity(self.name), entropy_of(f"{self.name} {told.round} {told.attempt}")
        message = protected(world.run).message_for(self.name)
        if (told.round, told.attempt) != self.attempt:
            if (told.round, told.attempt) < self.attempt or message is not None:
                return None
            self.attempt = told.round, told.attempt
            all_pins = pins(world.run)
            attempt = Attempt(RUN, *self.attempt, digest(world.plan), manifest_digest(all_pins))
            shown = [outcome.certificate for outcome in world.run.aside.earlier]
            by_ctx: dict[bytes, Certificate] = {found.ctx: found for found in shown if found is not None}
            only = c.check_releases(self.releases, by_ctx, attempt, told.model)
            setup = c.Setup(self.name, attempt, all_pins, 0, 0, only, told.model)
            return self.move(c.begin(setup, key, entropy))
        state = c.decode_state(self.disk)
        match message:
            case None:
                return state.message() if isinstance(state, c.Advertised) else None
            case Roster():
                if isinstance(state, c.Advertised):
                    self.move(state.receive_roster(message, lambda n: world.spec(told, n)))
                    state = c.decode_state(self.disk)
                return self.move(state.share(told.model, key, entropy))
            case Deal():
                return self.upload(world, message)
            case Survivors():
                return self.move(state.receive_survivors(message, key))
            case Quorum():
                return self.move(state.receive_quorum(message))
            case Closing():
                return self.move(state.abandon(message, key))
        raise AssertionError(message)

    def upload(self, world: "World", deal: Deal) -> bytes | None:
        self.move(c.decode_state(self.disk).receive_deal(deal))
        stage = world.run.stage
        assert isinstance(stage, InRound)
        vector = np.zeros(protected(world.run).book.roster.spec.length // 8, np.uint64)
        vector[self.number - 1] = 1
        self.move(c.decode_state(self.disk).commit(sha256(vector), vector.nbytes))
        state = c.decode_state(self.disk)
        assert isinstance(state, c.Committed | c.Uploaded)
        masked = vector.copy()
        apply(state.streams, masked)
        self.sent[sha256(masked)] = masked
        return self.move(state.uploaded(sha256(masked), identity(self.name)))


@dataclass
class World:
    """A run, its sites, its database."""

    plan: Plan
    n: int
    run: Run = field(init=False)
    now: float = 0.0
    rows: list[Row] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    todo: list[Aggregate] = field(default_factory=list)
    sums: list[Words] = field(default_factory=list)
    sites: dict[ClientName, Site] = field(default_factory=dict)
    odd: set[ClientName] = field(default_factory=set)  # sites whose answers hold rubbish

    def __post_init__(self) -> None:
        self.sites = {name: Site(name, number) for number, name in enumerate(names(self.n), 1)}
        first = begin(self.plan, 0.0, (FIRST, 1.0))
        self.run = revive(first.run, RUN, None, ())
        for name in self.sites:
            key = identity(name).public.hex()
            self.feed(Joined(name, MANIFEST.digest, None, key, MANIFEST))

    def feed(self, event: Event) -> None:
        """Step and save, as the driver does."""
        self.take(step(self.plan, self.run, event, self.now))

    def take(self, found: Step) -> None:
        self.run = found.run
        self.rows += found.rows
        self.facts += found.facts
        for fact in found.facts:
            if isinstance(fact, RoundPublished | RunEnded):
                self.rows = [row for row in self.rows if row.round > getattr(fact, "round", 10**9)]
        self.todo += [effect for effect in found.effects if isinstance(effect, Aggregate)]
        assert waiting_sentence(self.plan, self.run, self.now)

    def restart(self) -> None:
        """Begin again from what is saved."""
        before = self.run
        stage = before.stage
        rows = [row for row in self.rows if isinstance(stage, InRound) and row.round == stage.round]
        self.run = revive(decode(encode(before)), RUN, before.aside.layout, rows)
        assert self.run == before

    def spec(self, told: ToSecure, n: int) -> Spec:
        return spec_of(self.plan, MANIFEST, told.what, told.round, n, len(self.run.roster), self.run.bounds)

    def poll(self, name: ClientName, *, heard: bool = True) -> bool:
        """Let a site do what it is told; return whether it said something.  `heard`: the message arrives."""
        told = duty(self.plan, self.run, name)
        if not isinstance(told, ToSecure):
            return False
        site = self.sites[name]
        try:
            data = site.answer(self, told)
        except WrongPhase:
            return False
        except Refused as refusal:
            site.refused.append(refusal.code)
            self.feed(TaskFailed(name, told.round, told.attempt, refusal.code, "refused"))
            return True
        if data is None or not heard:
            return False
        return self.say(name, told, read_up(data))

    def say(self, name: ClientName, told: ToSecure, message: Up) -> bool:
        if isinstance(message, Answer) and name in self.odd:
            rubbish = bytes(32) + b"\7"
            message = Answer(tuple(Opened(o.number, rubbish) for o in message.selves), message.vaults)
        said = Said(name, told.round, told.attempt, message)
        if isinstance(message, Upload):
            masked = self.sites[name].sent[message.digest]
            said = replace(said, digest=Digest(message.digest.hex()), bytes=masked.nbytes)
        before = self.run
        try:
            self.feed(said)
        except Blamed as fault:
            self.feed(Faulted(name, told.round, told.attempt, fault.code, str(fault)))
        return self.run != before

    def work(self) -> bool:
        """Carry out what was ordered."""
        if not self.todo:
            return False
        order = self.todo.pop(0)
        stage = protected(self.run)
        assert isinstance(stage, Revealing)
        total = np.zeros(stage.book.roster.spec.length // 8, np.uint64)
        for name, found in order.updates:
            total += self.sites[name].sent[bytes.fromhex(found)]
        try:
            opening = open_masks(stage)
        except BadShares as error:
            self.feed(NotOpened(order.round, order.attempt, str(error)))
            return True
        apply(opening.streams, total)
        assert {int(word) for word in total} <= {0, 1}
        assert [name_of(int(i) + 1) for i in np.flatnonzero(total)] == [name for name, _ in order.updates]
        self.sums.append(total)
        model = order.model if order.what == "evaluate" else Digest(f"{order.round:02}" * 32)
        self.feed(
            Aggregated(order.round, order.attempt, model, (("accuracy", 0.5), ("loss", 0.1)), self.run.bounds)
        )
        return True

    def settle(self, who: tuple[ClientName, ...] | None = None, turns: int = 400) -> None:
        """Let these sites and the coordinator go on until nothing moves, or the run is over."""
        for _ in range(turns):
            if isinstance(self.run.stage, Ended):
                return
            moved = [self.poll(name) for name in (self.sites if who is None else who)]
            if not self.work() and not any(moved):
                return

    @property
    def phase(self) -> Securing:
        assert isinstance(self.run.stage, InRound)
        assert isinstance(self.run.stage.phase, Securing)
        return self.run.stage.phase

    def reach(self, leg: str, who: tuple[ClientName, ...]) -> None:
        """Let one site after the other speak until this leg has begun."""
        for _ in range(50):
            for name in who:
                if self.phase.leg == leg:
                    return
                self.poll(name)
        raise AssertionError(f"never {leg}: {self.phase}")

    def act(self, act: str, name: ClientName) -> None:
        """Do one thing of a schedule."""
        match act:
            case "poll" | "deaf":
                self.poll(name, heard=act == "poll")
            case "lose":
                self.feed(Lost(name, "silent"))
            case "back":
                self.feed(Returned(name))
            case "restart":
                self.restart()
            case "work":
                self.work()
            case "tick":
                self.now += WAIT
                self.feed(Tick())
            case "fail":
                stage = self.run.stage
                if isinstance(stage, InRound) and isinstance(stage.phase, Securing):
                    self.feed(TaskFailed(name, stage.round, stage.attempt, "task_error", "it raised"))

    def published(self) -> Iterator[RoundPublished]:
        return (fact for fact in self.facts if isinstance(fact, RoundPublished))


def test_a_quiet_run_sums_everybody_in_every_round() -> None:
    world = World(plan_of(4), 4)
    world.settle()
    assert isinstance(world.run.stage, Ended)
    assert world.run.stage.state == "finished"
    assert [found.sum() for found in world.sums] == [4, 4, 4]  # two rounds and the closing evaluation
    assert not world.rows  # the ledger is empty
    assert [len(fact.survivors) for fact in world.published()] == [4, 4]


def test_who_is_lost_in_each_leg_is_left_out_and_the_others_are_summed() -> None:
    for leg in ("advertising", "sharing", "uploading"):
        world = World(plan_of(5), 5)
        *others, gone = names(5)
        world.reach(leg, names(5))
        world.feed(Lost(gone, "silent for 60 s"))
        world.settle(tuple(others))
        first = next(world.published())
        assert first.survivors == tuple(others), leg
        assert first.reasons == ((gone, "silent for 60 s"),)
        assert first.attempts == 1


def test_survivors_that_go_away_are_waited_for_and_come_back() -> None:
    world = World(plan_of(4), 4)
    world.reach("agreeing", names(4))
    a, b, *_ = names(4)  # t = 3: two of four are too few
    for name in names(4)[2:]:
        world.feed(Lost(name, "left"))
    world.settle((a, b))
    assert world.phase.leg == "agreeing"
    assert next_deadline(world.run) == world.now + WAIT
    for name in names(4)[2:]:
        world.feed(Returned(name))
    world.settle()
    assert next(world.published()).survivors == names(4)
    assert next(world.published()).attempts == 1


def test_the_time_for_a_quorum_ends_with_it_and_who_came_back_is_waited_for_by_name() -> None:
    """The others may be away for good: then nobody but those who came back can open the sum."""
    world = World(plan_of(4), 4)
    world.reach("agreeing", names(4))
    a, b, c_, d = names(4)  # t = 3
    for name in (c_, d):
        world.feed(Lost(name, "left"))
    world.settle((a, b))
    world.feed(Returned(c_))
    assert expects(world.run) == {c_}
    world.reach("revealing", (c_,))
    assert next_deadline(world.run) is None
    world.now += 2 * WAIT
    world.feed(Tick())
    assert expects(world.run) == {a, b, c_}
    world.settle((a, b))
    assert expects(world.run) == {c_}
    assert f"what opens the sum from {c_}" in waiting_sentence(world.plan, world.run, world.now)
    world.feed(Lost(c_, "silent"))
    assert not expects(world.run)
    assert f"from {c_}, {d} to come back" in waiting_sentence(world.plan, world.run, world.now)
    world.feed(Returned(c_))
    world.settle((a, b, c_))
    first = next(world.published())
    assert (first.survivors, first.reasons, first.attempts) == (names(4), (), 1)


def test_a_sum_that_nobody_here_can_open_names_those_who_could() -> None:
    world = World(plan_of(4), 4)
    world.reach("revealing", names(4))
    a, b, *others = names(4)
    for name in others:
        world.feed(TaskFailed(name, 1, 1, "state_rolled_back", "the file of open attempts is a copy"))
    world.settle((a, b))
    assert not expects(world.run)
    sentence = waiting_sentence(world.plan, world.run, world.now)
    assert sentence.endswith(f"what opens the sum from {', '.join(others)}, which left the attempt")


def test_without_a_quorum_the_attempt_is_closed_and_only_then_tried_again() -> None:
    world = World(plan_of(4), 4)
    world.reach("agreeing", names(4))
    away = names(4)[2:]
    for name in away:
        world.feed(Lost(name, "left"))
    world.settle(names(4)[:2])
    world.now += WAIT
    world.feed(Tick())
    assert world.phase.leg == "closing"
    world.settle(names(4)[:2])
    assert isinstance(world.run.stage, InRound)
    assert world.run.stage.phase.kind == "announced"  # n + c - t + 1 = 2 have signed; 3 must be here
    assert [fact.attempt for fact in world.facts if isinstance(fact, AttemptFailed)] == [1]
    for name in away:
        world.feed(Returned(name))
    world.settle()
    first, second = world.published()
    assert (first.attempts, first.survivors) == (2, names(4)[:3])  # as soon as enough were back
    assert second.survivors == names(4)


def test_a_sum_that_fails_after_it_was_opened_is_asked_for_again_and_no_other() -> None:
    world = World(plan_of(5), 5)
    gone = names(5)[4]
    world.reach("uploading", names(5))
    world.feed(Lost(gone, "left"))
    world.reach("opening", names(5)[:4])
    order = world.todo.pop()
    world.feed(Failure(order.round, order.attempt, "the disk is full"))
    assert isinstance(world.run.stage, InRound)
    assert world.run.stage.phase.kind == "announced"  # the same vectors need a roster of five again
    world.feed(Returned(gone))
    assert world.phase.cohort == names(5)
    world.settle()
    assert next(world.published()).survivors == names(5)[:4]
    assert not any(site.refused for site in world.sites.values())


def test_before_anybody_could_upload_an_attempt_is_just_forgotten() -> None:
    world = World(plan_of(4), 4)
    world.reach("sharing", names(4))
    for name in names(4)[2:]:
        world.feed(TaskFailed(name, 1, 1, "task_error", "it raised"))
    assert isinstance(world.run.stage, InRound)
    assert world.run.stage.attempt == 2
    world.settle()
    assert next(world.published()).survivors == names(4)


def test_an_upload_whose_statement_was_lost_binds_its_signer_so_the_attempt_is_closed() -> None:
    world = World(plan_of(4), 4)
    world.reach("uploading", names(4))
    signer, *_ = names(4)
    world.poll(signer, heard=False)
    for name in names(4)[2:]:
        world.feed(TaskFailed(name, 1, 1, "task_error", "it raised"))
    assert world.phase.leg == "closing"
    world.settle()
    assert next(world.published()).survivors == names(4)
    assert not any(site.refused for site in world.sites.values())


def test_false_answers_are_outvoted_by_waiting_for_more() -> None:
    world = World(plan_of(5), 5)  # t = 3
    world.odd = {names(5)[0]}
    world.settle()
    assert [len(fact.survivors) for fact in world.published()] == [5, 5]


def test_the_ledger_gives_back_every_moment_of_an_attempt() -> None:
    world = World(plan_of(4), 4)
    for _ in range(60):
        if isinstance(world.run.stage, Ended):
            break
        for name in names(4):
            world.poll(name)
            world.restart()
        if world.todo:
            world.work()
            world.restart()
    assert isinstance(world.run.stage, Ended)
    assert [found.sum() for found in world.sums] == [4, 4, 4]


def test_a_quorum_does_not_wait_for_the_slow() -> None:
    world = World(plan_of(4, rounds={"wait": "quorum", "grace_seconds": 5.0}), 4)
    world.reach("uploading", names(4))
    world.settle(names(4)[:3])
    assert next_deadline(world.run) == 5.0
    assert expects(world.run) == {names(4)[3]}
    world.now = 5.0
    world.feed(Tick())
    world.settle(names(4)[:3])
    first = next(world.published())
    assert first.survivors == names(4)[:3]
    assert first.reasons == ((names(4)[3], "slower than the grace of 5 s"),)


def test_too_few_for_the_plan_end_the_run_with_the_numbers() -> None:
    world = World(plan_of(4, colluding=1, rounds={"attempts": 1}), 4)  # t = m = 3
    world.reach("uploading", names(4))
    for name in names(4)[2:]:
        world.feed(Lost(name, "left"))
    assert isinstance(world.run.stage, Ended)
    assert "2 of 4 uploaded, 3 needed: site-003: left; site-004: left" in world.run.stage.reason


ACTS = ("poll", "deaf", "lose", "back", "restart", "work", "tick", "fail")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 6),
    st.integers(0, 1),
    st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 5)), max_size=120),
)
def test_any_schedule_opens_sums_of_whole_updates_only(
    n: int, colluding: int, schedule: list[tuple[str, int]]
) -> None:
    """Drops, lost messages, returns, restarts, deadlines and failures: every word of a sum is 0 or 1."""
    world = World(plan_of(n, colluding, rounds={"count": 1, "attempts": 50}), n)
    for act, which in schedule:
        if isinstance(world.run.stage, Ended):
            break
        world.act(act, names(n)[which % n])
    for name in names(n):
        if not isinstance(world.run.stage, Ended):
            world.feed(Returned(name))
    world.settle()
    assert isinstance(world.run.stage, Ended), waiting_sentence(world.plan, world.run, world.now)
