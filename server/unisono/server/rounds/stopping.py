"""When a run stops before its last round, and which of its models is the best so far.

All is judged by the metric just learnt, which is that of the model before the one just made.
"""

from collections.abc import Mapping
from dataclasses import replace

from unisono.plan import Plan

from .phases import Run


def learn(plan: Plan, run: Run, metrics: Mapping[str, float]) -> Run:
    """Remember the run's latest model as the best so far, or that the best one was not surpassed."""
    value = metrics.get(plan.stop.metric)
    if value is None or run.model is None:
        return run  # nobody had examples to evaluate on this time: no verdict
    if run.best is None or _better(plan, value, run.best[1]):
        return replace(run, best=(run.round, value, run.model), stale=0)
    return replace(run, stale=run.stale + 1)


def unknown_metric(plan: Plan, metrics: Mapping[str, float]) -> str:
    """Say what is wrong if `stop.metric` names none of the task's metrics, else nothing."""
    name = plan.stop.metric
    if not name or name in metrics:
        return ""
    known = ", ".join(sorted(metrics)) or "none was reported"
    return f"stop.metric '{name}' is not among the task's metrics: {known}"


def why_stop(plan: Plan, run: Run, now: float) -> str:
    """Return why the run ends after the round just published, or nothing."""
    stop, best = plan.stop, run.best
    if best is not None and stop.target and not _better(plan, stop.target, best[1]):
        return f"{stop.metric} reached {best[1]:.4g} {_after(best[0])} (target {stop.target:g})"
    if best is not None and 0 < stop.patience <= run.stale:
        rounds = f"{run.stale} round{'' if run.stale == 1 else 's'}"
        return f"{stop.metric} has not improved for {rounds} (best {best[1]:.4g} {_after(best[0])})"
    if stop.max_seconds and now - run.began >= stop.max_seconds:
        return f"{now - run.began:.0f} s have passed (max_seconds {stop.max_seconds:g})"
    if run.round >= plan.rounds.count:
        return "the only round is done" if run.round == 1 else f"all {run.round} rounds are done"
    return ""


def _better(plan: Plan, value: float, than: float) -> bool:
    return value > than if plan.stop.direction == "max" else value < than


def _after(number: int) -> str:
    return f"after round {number}" if number else "with the initial model"
