"""What became certain in a step.  Rows that the driver writes in the transaction that saves the step."""

from dataclasses import dataclass
from typing import Literal

from unisono.base.ids import ClientName, Digest


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The roster is frozen."""

    roster: tuple[ClientName, ...]
    manifest: Digest


@dataclass(frozen=True, slots=True)
class ModelKept:
    """A model of this run exists: round 0 is the initial one."""

    round: int
    model: Digest


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt of a round came to nothing."""

    round: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoundPublished:
    """A round is committed."""

    round: int
    attempts: int
    cohort: tuple[ClientName, ...]
    survivors: tuple[ClientName, ...]
    seconds: float  # since the round was announced, failed attempts included
    model: Digest
    reasons: tuple[tuple[ClientName, str], ...] = ()  # why members of the cohort do not count


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The closing evaluation is done: these told how good the last model is."""

    round: int
    attempts: int
    survivors: tuple[ClientName, ...]
    model: Digest


@dataclass(frozen=True, slots=True)
class MetricsKnown:
    """The metrics of the model that this round produced (round 0: of the initial model)."""

    round: int
    metrics: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Nothing more will happen to this run."""

    state: Literal["finished", "failed", "stopped"]
    reason: str


Fact = RunStarted | ModelKept | AttemptFailed | RoundPublished | Evaluated | MetricsKnown | RunEnded
