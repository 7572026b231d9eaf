"""Whatever happens, in whatever order, a run keeps its promises."""

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from unisono.base.errors import Refused
from unisono.base.ids import ClientName, Digest
from unisono.plan import Plan
from unisono.server.rounds import (
    Aggregate,
    Aggregated,
    Aggregating,
    Declined,
    Effect,
    Ended,
    Event,
    Failure,
    InRound,
    Joined,
    Lost,
    ModelReceived,
    Offered,
    Prune,
    Returned,
    RoundPublished,
    Run,
    RunEnded,
    Step,
    StopAsked,
    TaskFailed,
    Tick,
    ToSendModel,
    ToWork,
    Uploaded,
    begin,
    decode,
    decode_effect,
    duty,
    encode,
    encode_effect,
    expects,
    next_deadline,
    step,
    waiting_sentence,
)

NAMES = [ClientName(name) for name in "abcd"]
WAIT = 10.0


def plan_of(**sections: dict[str, object]) -> Plan:
    cohort = {"wait_seconds": WAIT, **sections.pop("cohort", {})}
    rounds = {"count": 2, "attempts": 2, **sections.pop("rounds", {})}
    return Plan.model_validate(
        {"task": "x", "protection": {"mode": "sealed"}, "cohort": cohort, "rounds": rounds, **sections}
    )


PLANS = [
    plan_of(cohort={"size": 3}),
    plan_of(cohort={"size": 2, "roster": "open"}, rounds={"keep_models": 2}),
    plan_of(cohort={"min_survivors": 2}, stop={"metric": "m", "patience": 1}),
    plan_of(cohort={"size": 3, "min_survivors": 2}, rounds={"wait": "quorum", "grace_seconds": 3.0}),
    plan_of(stop={"metric": "m", "direction": "min", "target": 0.1, "max_seconds": 60.0}),
]


@dataclass(frozen=True)
class Move:
    """One event, or the same from everybody; it fits the present round mostly, so that histories get far."""

    verb: str
    clients: tuple[ClientName, ...]
    digest: Digest
    off: int  # how far the round named is from the present one
    delay: float

    def event(self, run: Run, client: ClientName) -> Event:
        number, attempt, digest = 1, 1, self.digest
        if isinstance(run.stage, InRound):
            number, attempt = run.stage.round + self.off, run.stage.attempt
        events: dict[str, Event] = {
            "upload": Uploaded(client, number, attempt, digest, 1),
            "fail": TaskFailed(client, number, attempt, "task_failed", "out of memory"),
            "sum": Aggregated(number, attempt, Digest(f"{digest}-{number}"), (("m", self.delay),), (1.0,)),
            "failure": Failure(number, attempt, "a sum out of range"),
            "model": ModelReceived(client, digest, 1.0),
            "join": Joined(client, Digest("m2" if self.off else "m1"), digest),
            "decline": Declined(client, "outside_policy", "not today"),
            "stop": StopAsked("anna"),
            "offer": Offered(client),
            "lost": Lost(client, "silent"),
            "back": Returned(client),
            "tick": Tick(),
        }
        return events[self.verb]


ONE = ["upload"] * 4 + ["join", "back", "tick"] * 2 + ["lost", "fail", "model", "offer", "failure", "decline"]
ALL = ["upload", "sum"] * 4 + ["join", "model", "back", "tick"]
EVERYBODY = tuple(NAMES)
START = [Move(verb, EVERYBODY, Digest("d1"), 0, 1.0) for verb in ("join", "tick", "model")]
digests = st.sampled_from([Digest("d1")] * 9 + [Digest("d2")])
offs = st.sampled_from([0] * 18 + [1, -1])
delays = st.sampled_from([0.0, 0.0, 0.5, 1.0, 4.0])
one = st.sampled_from(NAMES).map(lambda name: (name,))
everybody = st.permutations(NAMES).map(tuple)
moves = st.one_of(
    st.builds(Move, st.sampled_from([*ONE, *ONE, "stop"]), one, digests, offs, delays),
    st.builds(Move, st.sampled_from(ALL), everybody, digests, offs, delays),
)
beginnings = st.sampled_from([START, START, START[:1], []])
histories = st.builds(list[Move].__add__, beginnings, st.lists(moves, min_size=8, max_size=30))
plans = st.sampled_from(PLANS)


def play(plan: Plan, history: list[Move], operator: bool) -> Iterator[tuple[Run, Event, float, Step]]:
    """Yield every accepted event with the run before it."""
    run, now = begin(plan, 0.0, (Digest("d0"), 1.0) if operator else None).run, 0.0
    for move in history:
        now += move.delay
        for client in move.clients:
            event = move.event(run, client)
            try:
                result = step(plan, run, event, now)
            except Refused:
                continue
            yield run, event, now, result
            run = result.run


def last_of(plan: Plan, history: list[Move], operator: bool) -> tuple[Run, float]:
    accepted = [(result.run, now) for _, _, now, result in play(plan, history, operator)]
    start = begin(plan, 0.0, (Digest("d0"), 1.0) if operator else None).run
    return accepted[-1] if accepted else (start, 0.0)


@given(plans, histories, st.booleans())
@settings(max_examples=60)
def test_nobody_counts_twice_and_rounds_follow_each_other(
    plan: Plan, history: list[Move], operator: bool
) -> None:
    sums: dict[tuple[int, int], Aggregate] = {}
    published: list[RoundPublished] = []
    for run, _, _, result in play(plan, history, operator):
        for effect in result.effects:
            if isinstance(effect, Aggregate):
                assert (effect.round, effect.attempt) not in sums
                sums[effect.round, effect.attempt] = effect
                assert isinstance(result.run.stage, InRound)
                assert isinstance(phase := result.run.stage.phase, Aggregating)
                counted = [client for client, _ in effect.updates]
                assert counted == sorted(set(counted))
                assert set(counted) <= set(phase.cohort)
                assert plan.minimum(effect.cohort) <= len(counted) <= effect.cohort == len(phase.cohort)
                assert set(counted).isdisjoint(dict(phase.dropped))
        for fact in result.facts:
            if isinstance(fact, RoundPublished):
                published.append(fact)
                effect = sums[fact.round, fact.attempts]
                assert fact.survivors == tuple(client for client, _ in effect.updates)
                assert sorted((*fact.survivors, *dict(fact.reasons))) == sorted(fact.cohort)
                assert effect.model == run.model
    assert [fact.round for fact in published] == list(range(1, len(published) + 1))


@given(plans, histories, st.booleans())
@settings(max_examples=60)
def test_the_end_is_the_end(plan: Plan, history: list[Move], operator: bool) -> None:
    final = None
    for run, _, _, result in play(plan, history, operator):
        if final is not None:
            assert result == Step(final)
        elif isinstance(result.run.stage, Ended):
            final = result.run
            assert any(isinstance(fact, RunEnded) for fact in result.facts)
            assert isinstance(result.effects[-1], Prune)
        else:
            assert not any(isinstance(fact, RunEnded) for fact in result.facts)
            assert set(run.roster) <= set(result.run.roster)
            assert result.run.away <= set(result.run.roster)


@given(plans, histories, st.booleans())
@settings(max_examples=60)
def test_models_in_use_are_kept(plan: Plan, history: list[Move], operator: bool) -> None:
    for _, _, _, result in play(plan, history, operator):
        run = result.run
        for effect in result.effects:
            if isinstance(effect, Prune):
                best = () if run.best is None else (run.best[2],)
                model = () if run.model is None else (run.model,)
                assert {*model, *best, *run.recent} <= set(effect.keep)
                assert len(effect.keep) <= 2 + plan.rounds.keep_models


@given(plans, histories, st.booleans())
@settings(max_examples=60)
def test_said_twice_is_said_once(plan: Plan, history: list[Move], operator: bool) -> None:
    """Any reply may be lost, so any event may come again: it is refused, or changes nothing."""
    for _, event, now, result in play(plan, history, operator):
        try:
            again = step(plan, result.run, event, now)
        except Refused:
            continue
        assert again == Step(result.run)


@given(plans, histories, st.booleans())
@settings(max_examples=60)
def test_every_run_is_saved_whole(plan: Plan, history: list[Move], operator: bool) -> None:
    text = encode(begin(plan, 0.0, (Digest("d0"), 1.0) if operator else None).run)
    for run, _, _, result in play(plan, history, operator):
        assert encode(run) == text  # neither the step nor refusals since the last one touched it
        text = encode(result.run)
        assert decode(text) == result.run
        assert encode(decode(text)) == text
        for effect in result.effects:
            assert decode_effect(encode_effect(effect)) == effect


@given(plans, histories, st.booleans())
@settings(max_examples=60)
def test_somebody_is_always_waited_for_and_said_so(plan: Plan, history: list[Move], operator: bool) -> None:
    for _, event, now, result in play(plan, history, operator):
        run, stage = result.run, result.run.stage
        sentence = waiting_sentence(plan, run, now, dict.fromkeys(expects(run), 5.0))
        assert sentence
        assert "\n" not in sentence
        busy = {name for name in NAMES if isinstance(duty(plan, run, name), ToWork | ToSendModel)}
        assert busy == expects(run)
        if isinstance(stage, Ended) or (isinstance(stage, InRound) and isinstance(stage.phase, Aggregating)):
            assert not busy
            continue
        due = next_deadline(run)
        assert due is not None or busy
        if isinstance(event, Tick) and due is not None:
            assert now < due  # or the driver would tick for ever at the same time


def pass_time(plan: Plan, run: Run, now: float, aggregates: bool) -> tuple[Run, float]:
    """Do what happens by itself: deadlines pass, silent clients are lost, sums are done or fail."""
    stage = run.stage
    if isinstance(stage, InRound) and isinstance(stage.phase, Aggregating):
        if aggregates:
            done: Event = Aggregated(stage.round, stage.attempt, Digest("d9"), (("m", 0.5),), (1.0,))
        else:
            done = Failure(stage.round, stage.attempt, "a sum out of range")
        return step(plan, run, done, now).run, now
    for client in sorted(expects(run)):
        if client in expects(run):
            run = step(plan, run, Lost(client, "silent"), now).run
    due = next_deadline(run)
    now = now if due is None else max(now, due)
    return step(plan, run, Tick(), now).run, now


@given(plans, histories, st.booleans(), st.booleans())
@settings(max_examples=60)
def test_time_alone_ends_every_run(plan: Plan, history: list[Move], operator: bool, aggregates: bool) -> None:
    run, now = last_of(plan, history, operator)
    began = now
    for _ in range(40):
        run, now = pass_time(plan, run, now, aggregates)
    assert isinstance(run.stage, Ended)
    assert now - began <= WAIT * (1 + 3 * plan.rounds.attempts)


@given(st.permutations([*NAMES, ClientName("lost"), ClientName("failed")]))
@settings(max_examples=30)
def test_the_order_of_arrival_does_not_matter(order: list[ClientName]) -> None:
    plan = plan_of(cohort={"size": 6})
    run = begin(plan, 0.0, (Digest("d0"), 1.0)).run
    for name in sorted(order):
        run = step(plan, run, Joined(name, Digest("m1")), 0.0).run
    effects: list[Effect] = []
    for now, name in enumerate(order):
        event: Event = Uploaded(name, 1, 1, Digest(f"update of {name}"), 1)
        if name == "lost":
            event = Lost(name, "silent")
        elif name == "failed":
            event = TaskFailed(name, 1, 1, "task_failed", "out of memory")
        result = step(plan, run, event, float(now))
        run = result.run
        effects += result.effects
    updates = tuple((name, Digest(f"update of {name}")) for name in NAMES)
    assert effects == [Aggregate(1, 1, "train", 6, updates, Digest("d0"), (1.0,), ())]
