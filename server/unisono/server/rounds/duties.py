"""What a client should do now, and for whom and until when the run waits."""

from dataclasses import dataclass
from typing import Literal

from unisono.base.ids import ClientName, Digest
from unisono.plan import Plan

from .phases import Announced, Collecting, Ended, Initialising, InRound, Run, Waiting


@dataclass(frozen=True, slots=True)
class ToConsider:
    """Look at the plan, make the model, then join or decline."""


@dataclass(frozen=True, slots=True)
class ToSendModel:
    """Send the initial model that was announced."""

    model: Digest


@dataclass(frozen=True, slots=True)
class ToWork:
    """Train (or only evaluate) from `model` and upload an update laid out for `cohort` clients."""

    round: int
    attempt: int
    what: Literal["train", "evaluate"]
    model: Digest
    cohort: int


Duty = ToConsider | ToSendModel | ToWork


def duty(plan: Plan, run: Run, client: ClientName) -> Duty | None:
    """Return what a client that offers the task should do now, or None: wait."""
    match run.stage:
        case Ended():
            return None
        case Waiting(joined=joined):
            asked = client not in dict(joined) and client not in dict(run.declined)
            return ToConsider() if asked else None
        case Initialising(source, model) if source == client:
            return ToSendModel(model)
        case InRound(what, number, attempt, _, Collecting(cohort, waiting)) if client in waiting:
            return ToWork(number, attempt, what, run.latest, len(cohort))
        case _:
            new = client not in run.roster and client not in dict(run.declined)
            return ToConsider() if new and plan.cohort.roster == "open" else None


def expects(run: Run) -> frozenset[ClientName]:
    """Return the clients whose progress is waited for; the runtime reports who makes none as `Lost`."""
    match run.stage:
        case Initialising(source):
            return frozenset({source})
        case InRound(phase=Collecting(waiting=waiting)):
            return waiting
        case _:
            return frozenset()


def next_deadline(run: Run) -> float | None:
    """Return when a Tick is due, on the run's own clock."""
    match run.stage:
        case Waiting(deadline, settled):
            return deadline if settled is None else min(deadline, settled)
        case InRound(phase=Announced(deadline)):
            return deadline
        case InRound(phase=Collecting(grace=grace)):
            return grace
        case _:
            return None
