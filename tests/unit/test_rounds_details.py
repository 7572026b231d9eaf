"""What traces do not show: sampling, bounds, what stays on disk, damaged rows, wording."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from unisono.base.errors import BadUpdate, Fault, WrongPhase
from unisono.base.ids import ClientName, Digest
from unisono.plan import Plan
from unisono.server.rounds import (
    Aggregate,
    Aggregated,
    Collecting,
    Declined,
    Ended,
    InRound,
    Joined,
    Lost,
    Offered,
    Prune,
    Run,
    TaskFailed,
    Tick,
    ToWork,
    Uploaded,
    Waiting,
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

A, B = ClientName("a"), ClientName("b")


def started(plan: Plan, *names: str) -> Run:
    """Return a run in round 1 whose roster is `names`."""
    run = begin(plan, 0.0, (Digest("d0"), 1.0)).run
    for name in names:
        run = step(plan, run, Joined(ClientName(name), Digest("m1")), 0.0).run
    return run


def cohort_of(run: Run) -> tuple[ClientName, ...]:
    assert isinstance(run.stage, InRound)
    assert isinstance(run.stage.phase, Collecting)
    return run.stage.phase.cohort


def test_samples_are_fair_repeatable_and_new_in_every_attempt() -> None:
    names = [f"c{i}" for i in range(10)]
    chosen: Counter[str] = Counter()
    for seed in range(100):
        plan = Plan.model_validate(
            {
                "task": "x",
                "protection": {"mode": "sealed"},
                "seed": seed,
                "cohort": {"size": 4, "roster": "open"},
            }
        )
        run = started(plan, *names)  # round 1 begins with the first four, the others join the roster
        failed = started(plan, *names)
        for name in cohort_of(run):
            failed = step(plan, failed, Lost(name, "silent"), 0.0).run
            failed = replace(failed, away=frozenset())
        cohort = cohort_of(failed)
        assert cohort == tuple(sorted(cohort))
        assert len(cohort) == 4
        chosen.update(cohort)
    assert chosen.total() == 400
    assert min(chosen.values()) > 20  # 40 each, if the hashes are fair
    assert max(chosen.values()) < 60


def test_round_and_attempt_change_the_sample() -> None:
    plan = Plan.model_validate(
        {"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 3, "roster": "open"}}
    )
    run = started(plan, *(f"c{i}" for i in range(30)))
    seen = {cohort_of(run)}
    for number in range(1, 5):
        for client in cohort_of(run):
            run = step(plan, run, Uploaded(client, number, 1, Digest("u"), 1), 0.0).run
        run = step(plan, run, Aggregated(number, 1, Digest(f"d{number}")), 0.0).run
        seen.add(cohort_of(run))
    assert len(seen) == 5


def test_bounds_and_strategy_vectors_are_handed_on() -> None:
    plan = Plan.model_validate(
        {"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 1}, "rounds": {"count": 2}}
    )
    run = started(plan, "a")
    first = step(plan, run, Uploaded(A, 1, 1, Digest("u"), 1), 0.0)
    assert first.effects == (Aggregate(1, 1, "train", 1, ((A, Digest("u")),), Digest("d0"), (1.0,), ()),)
    state = (("m", Digest("s1")), ("v", Digest("s2")))
    result = step(plan, first.run, Aggregated(1, 1, Digest("d1"), (), (0.5,), state), 0.0)
    assert Prune(1, (Digest("d1"), Digest("s1"), Digest("s2"))) in result.effects
    second = step(plan, result.run, Uploaded(A, 2, 1, Digest("u"), 1), 0.0)
    assert second.effects == (Aggregate(2, 1, "train", 1, ((A, Digest("u")),), Digest("d1"), (0.5,), state),)
    closing = step(plan, second.run, Aggregated(2, 1, Digest("d2"), (), (0.5,), state), 0.0).run
    closing = step(plan, closing, Uploaded(A, 3, 1, Digest("u"), 1), 0.0).run
    end = step(plan, closing, Aggregated(3, 1, Digest("d2")), 0.0)
    assert isinstance(end.run.stage, Ended)
    assert end.effects[-1] == Prune(2, (Digest("d2"),))  # a run that has ended needs no vectors


@pytest.mark.parametrize(
    ("metrics", "bounds"),
    [((("loss", float("nan")),), (1.0,)), ((), (float("inf"),))],
    ids=["metric", "bound"],
)
def test_a_sum_that_is_not_finite_fails_the_attempt(
    metrics: tuple[tuple[str, float], ...], bounds: tuple[float, ...]
) -> None:
    plan = Plan.model_validate(
        {"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 1}, "rounds": {"attempts": 1}}
    )
    run = step(plan, started(plan, "a"), Uploaded(A, 1, 1, Digest("u"), 1), 0.0).run
    end = step(plan, run, Aggregated(1, 1, Digest("d1"), metrics, bounds), 0.0).run
    assert isinstance(end.stage, Ended)
    assert end.stage.state == "failed"
    assert "came out as" in end.stage.reason
    assert decode(encode(end)) == end


@pytest.mark.parametrize("norm", [float("nan"), float("inf"), -1.0])
def test_an_initial_model_without_a_norm_is_no_model(norm: float) -> None:
    with pytest.raises(BadUpdate):
        begin(Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}}), 0.0, (Digest("d0"), norm))


def test_the_clock_of_a_run_may_start_anywhere() -> None:
    plan = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})
    run = begin(plan, 1000.0).run
    assert next_deadline(run) == 1001.0
    run = step(plan, run, Offered(A), 1000.5).run
    assert next_deadline(run) == 1001.5
    run = step(plan, run, Tick(), 1001.5).run
    assert next_deadline(run) == 1060.0


def test_who_connects_again_is_asked_again() -> None:
    plan = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 2}})
    run = step(plan, begin(plan, 0.0).run, Declined(A, "outside_policy", "not today"), 0.0).run
    assert duty(plan, run, A) is None
    run = step(plan, run, Lost(A, "connection closed"), 0.0).run
    assert run.declined  # still worth telling
    run = step(plan, run, Offered(A), 0.0).run
    assert not run.declined
    assert duty(plan, run, A) is not None


def test_an_attempt_remembers_why_the_earlier_ones_failed() -> None:
    plan = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 1}})
    run = started(plan, "a")
    for attempt in (1, 2):
        run = step(plan, run, TaskFailed(A, 1, attempt, "task_failed", f"reason {attempt}"), 0.0).run
    assert isinstance(run.stage, InRound)
    assert run.stage.attempt == 3
    assert run.stage.failures == (
        "0 of 1 survivors needed: a: task failed (reason 1)",
        "0 of 1 survivors needed: a: task failed (reason 2)",
    )


def test_only_the_cohort_works_and_is_expected() -> None:
    plan = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 2}})
    run = step(plan, started(plan, "a", "b"), Uploaded(A, 1, 1, Digest("u"), 1), 0.0).run
    assert duty(plan, run, A) is None
    assert duty(plan, run, B) == ToWork(1, 1, "train", Digest("d0"), 2)
    assert expects(run) == {B}


def test_a_refusal_names_both_rounds_and_travels_as_wrong_phase() -> None:
    plan = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 1}})
    with pytest.raises(WrongPhase, match=r"round 7, attempt 2 .* 1, attempt 1") as caught:
        step(plan, started(plan, "a"), Uploaded(A, 7, 2, Digest("u"), 1), 0.0)
    assert caught.value.code == "wrong_phase"


def test_sentences_name_the_time_left_and_cut_long_lists() -> None:
    names = [f"h-{i:02}" for i in range(12)]
    plan = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 12}})
    run = started(plan, *names)
    idle = {ClientName(name): 60.0 - i for i, name in enumerate(names)}
    assert waiting_sentence(plan, run, 0.0, idle) == (
        "round 1: 0 of 12 updates, waiting for h-00, h-01, h-02, h-03, h-04 and 7 more, "
        "49 s left without progress"
    )


def test_saved_text_is_canonical() -> None:
    names = frozenset(ClientName(f"c{i}") for i in range(50))
    run = Run(Waiting(1.0, None, offered=names))
    saved = json.loads(encode(run))
    assert saved["stage"]["offered"] == sorted(names)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda row: row | {"epsilon": 1.0}, "unknown key 'epsilon'"),
        (lambda row: row | {"stage": row["stage"] | {"leader": "a"}}, "unknown key 'stage'"),
        (lambda row: row | {"round": "one"}, "round: Input should be a valid integer"),
        (lambda row: row | {"stage": row["stage"] | {"kind": "sharing"}}, "cannot be read: stage"),
        (lambda row: [], "cannot be read"),
    ],
    ids=["newer-field", "newer-field-inside", "wrong-type", "unknown-stage", "not-an-object"],
)
def test_a_row_that_we_do_not_understand_is_refused(damage, complaint: str) -> None:  # type: ignore[no-untyped-def]
    row = json.loads(
        encode(begin(Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}}), 0.0).run)
    )
    with pytest.raises(Fault, match=complaint):
        decode(json.dumps(damage(row)))


def test_a_row_of_an_older_version_is_read() -> None:
    """Fields that came later take their defaults: a coordinator may be updated in the middle of a run."""
    run = begin(Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}}), 0.0).run
    row = json.loads(encode(run))
    del row["recent"]
    assert decode(json.dumps(row)) == run


def test_effects_are_read_as_what_they_were() -> None:
    text = encode_effect(Prune(1, (Digest("d1"),)))
    assert decode_effect(text) == Prune(1, (Digest("d1"),))
    with pytest.raises(Fault, match="effect"):
        decode_effect(text.replace("prune", "plunder"))
