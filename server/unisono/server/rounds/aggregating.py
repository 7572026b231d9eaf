"""Aggregating: the survivors are frozen; when their sum is known the round is published.

What is learnt with a sum are the metrics of the model that its round *started* from; so the last model gets
one closing evaluation, a round that makes no model.
"""

from dataclasses import replace
from math import isfinite

from unisono.plan import Plan

from .attempts import fail_attempt, open_round
from .collecting import is_repeat
from .effects import Forget
from .endings import end, prune
from .events import Aggregated, Event, Failure, Lost, Returned, TaskFailed, Tick, Uploaded
from .facts import Evaluated, MetricsKnown, ModelKept, RoundPublished
from .phases import Aggregating, InRound, Run
from .result import Step, check_attempt, wrong_phase
from .stopping import learn, unknown_metric, why_stop


def aggregating(plan: Plan, run: Run, stage: InRound, phase: Aggregating, event: Event, now: float) -> Step:
    """Publish the round, or fail the attempt; who uploads the same again is told yes."""
    match event:
        case Aggregated():
            check_attempt(run, stage, event)
            return summed(plan, run, stage, phase, event, now)
        case Failure(reason=reason):
            check_attempt(run, stage, event)
            return fail_attempt(plan, run, stage, reason, now)
        case Uploaded(client=client, digest=digest):
            check_attempt(run, stage, event)
            if is_repeat(phase, client, digest):
                return Step(run)
            raise wrong_phase(run, event)
        case TaskFailed(client=client) if client in dict(phase.dropped):
            check_attempt(run, stage, event)
            return Step(run)
        case Tick() | Lost() | Returned():
            return Step(run)
        case _:
            raise wrong_phase(run, event)


def summed(plan: Plan, run: Run, stage: InRound, phase: Aggregating, event: Aggregated, now: float) -> Step:
    """Publish what the sum made, or fail the attempt if no later round could work with it."""
    if wrong := _not_finite(event):
        return fail_attempt(plan, run, stage, wrong, now)
    metrics = dict(event.metrics)
    known = MetricsKnown(run.round, event.metrics)
    run = learn(plan, run, metrics)
    if stage.what == "evaluate":
        return end(run, "finished", run.closing, (known, _evaluated(run, stage, phase)))
    published = _published(stage, phase, event, now)
    facts = (known, ModelKept(stage.round, event.model), published)
    run = replace(_with_model(plan, run, stage, event), last=(stage.round, published.survivors))
    if stage.round == 1 and (wrong := unknown_metric(plan, metrics)):
        return end(run, "failed", wrong, facts)
    run = replace(run, closing=why_stop(plan, run, now))
    following = open_round(plan, run, "evaluate" if run.closing else "train", now)
    return replace(
        following,
        effects=(Forget(stage.round, stage.attempt), prune(run), *following.effects),
        facts=(*facts, *following.facts),
    )


def _published(stage: InRound, phase: Aggregating, event: Aggregated, now: float) -> RoundPublished:
    return RoundPublished(
        round=stage.round,
        attempts=stage.attempt,
        cohort=phase.cohort,
        survivors=tuple(client for client, _ in phase.updates),
        seconds=now - stage.began,
        model=event.model,
        reasons=phase.dropped,
    )


def _evaluated(run: Run, stage: InRound, phase: Aggregating) -> Evaluated:
    survivors = tuple(client for client, _ in phase.updates)
    return Evaluated(stage.round, stage.attempt, survivors, run.latest)


def _with_model(plan: Plan, run: Run, stage: InRound, event: Aggregated) -> Run:
    keep = plan.rounds.keep_models
    return replace(
        run,
        model=event.model,
        round=stage.round,
        bounds=event.bounds,
        state=event.state,
        recent=(*run.recent, event.model)[-keep:] if keep else (),
    )


def _not_finite(event: Aggregated) -> str:
    """Name what no later round could work with: the sum is then as worthless as one out of range."""
    for name, value in (*event.metrics, *(("the codec's bound", bound) for bound in event.bounds)):
        if not isfinite(value):
            return f"{name} came out as {value}"
    return ""
