"""How a run ends, and which of its files stay."""

from dataclasses import replace
from typing import Literal

from .effects import Effect, Forget, Prune
from .events import StopAsked
from .facts import Fact, RunEnded
from .phases import Ended, InRound, Run
from .result import Step


def end(
    run: Run, state: Literal["finished", "failed", "stopped"], reason: str, facts: tuple[Fact, ...] = ()
) -> Step:
    """End the run: the spool is emptied, the models worth keeping stay, the strategy's vectors go."""
    stage = run.stage
    spooled: tuple[Effect, ...] = (Forget(stage.round, stage.attempt),) if isinstance(stage, InRound) else ()
    aside = replace(run.aside, protected=None, earlier=())
    ended = replace(run, stage=Ended(state, reason), state=(), closing="", aside=aside)
    return Step(ended, (*spooled, prune(ended)), (*facts, RunEnded(state, reason)))


def stop(run: Run, event: StopAsked) -> Step:
    """End the run because somebody wants it."""
    when = f"after round {run.round}" if run.round else "before its first round was done"
    return end(run, "stopped", f"stopped by {event.by} {when}")


def prune(run: Run) -> Prune:
    """Keep the latest model, the best, the recent ones that the plan asks for, and the strategy's vectors."""
    keep = {*run.recent, *(digest for _, digest in run.state)}
    if run.model is not None:
        keep.add(run.model)
    if run.best is not None:
        keep.add(run.best[2])
    return Prune(run.round, tuple(sorted(keep)))
