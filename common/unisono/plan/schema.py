"""What a plan says, section by section (DESIGN section 8), with every default.

A plan is frozen and strict: an unknown key, a number in quotes or `true` for a number is an error, because a
plan is approved by people at several sites and may not mean something else than it says.
"""

from collections.abc import Mapping
from math import ceil, isfinite
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from unisono.base.ids import is_name

from .mistakes import shown, shown_key
from .thresholds import FEWEST

_DEEPEST, _LARGEST = 16, 2**63  # of what a task or a strategy may be given: canonical JSON must carry it

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


def _plain(value: object, key: str, depth: int = 0) -> object:
    match value:
        case bool() | str():
            return value
        case int() if -_LARGEST <= value < _LARGEST:
            return value
        case float() if isfinite(value):
            return value
        case Mapping() if depth < _DEEPEST:
            return {name: _plain(inner, name, depth + 1) for name, inner in value.items()}
        case list() if depth < _DEEPEST:
            return [_plain(inner, key, depth + 1) for inner in value]
    raise ValueError(
        f"{shown_key(key)} must be text, true, false, a finite number of 64 bits, "
        f"or arrays and tables of them {_DEEPEST} deep, not {shown(value)}"
    )


def _plain_table(value: object) -> object:
    """Refuse what canonical JSON cannot carry (dates, huge numbers, NaN) before anybody sees it."""
    return _plain(value, "") if isinstance(value, Mapping) else value


Table = Annotated[dict[str, JsonValue], BeforeValidator(_plain_table)]


class Section(BaseModel):
    """A part of a plan: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


class Model(Section):
    """Where the first global model comes from: "clients" (from the seed) or a safetensors file."""

    init: str = "clients"

    @field_validator("init")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "clients" and not value.endswith(".safetensors"):
            raise ValueError(f'must be "clients" or the name of a .safetensors file, not {shown(value)}')
        return value


class Rounds(Section):
    """How many rounds, and how long each waits."""

    count: Positive = 20
    attempts: Annotated[int, Field(ge=1, le=1000)] = 3  # per round
    wait: Literal["all", "quorum"] = "all"
    grace_seconds: Seconds = 30.0  # with wait = "quorum": for the others, once enough have uploaded
    idle_seconds: Seconds = 60.0  # without progress, then a client is lost
    keep_models: Count = 0  # beside the best and the last


class Cohort(Section):
    """Who takes part: `size` 0 is everyone who offers the task, `min_survivors` 0 is automatic."""

    size: Count = 0
    min_survivors: Count = 0
    roster: Literal["frozen", "open"] = "frozen"
    wait_seconds: Seconds = 60.0  # without anyone joining, for the clients that the run needs


class Training(Section):
    """What a client does in a round."""

    epochs: Positive = 1
    batch_size: Positive = 32
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] = 0.01
    max_examples: Positive = 100_000  # cap of a client's weight


class Aggregation(Section):
    """The strategy; every other key of the section is a parameter that the strategy itself declares."""

    model_config = ConfigDict(extra="allow")

    strategy: str = "fedavg"

    _plain = model_validator(mode="before")(_plain_table)

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """The strategy's own keys; complete with its defaults once the plan has been parsed."""
        return dict(self.model_extra or {})


class Protection(Section):
    """How an update is encrypted; `max_colluding` -1 is automatic: just below a third of the run's sites."""

    mode: Literal["sealed", "secagg", "he"] = "secagg"
    max_colluding: Annotated[int, Field(ge=-1, le=98)] = -1


class Codec(Section):
    """How coordinates are packed."""

    lanes: Literal["auto", 12, 16, 21] = "auto"


class Stop(Section):
    """When to stop before `rounds.count`; 0 and "" switch a condition off."""

    metric: str = ""
    direction: Literal["min", "max"] = "max"
    target: float = 0.0
    patience: Count = 0  # rounds without improvement
    max_seconds: Annotated[float, Field(ge=0, le=31_536_000)] = 0.0


class Plan(Section):
    """One run, described by people.  Its identity is the digest of its canonical bytes."""

    task: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    model: Model = Model()
    rounds: Rounds = Rounds()
    cohort: Cohort = Cohort()
    training: Training = Training()
    aggregation: Aggregation = Aggregation()
    protection: Protection = Protection()
    codec: Codec = Codec()
    stop: Stop = Stop()
    task_parameters: Table = {}

    @field_validator("task")
    @classmethod
    def _named(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError(f"must be lower-case letters, digits, '.', '_' and '-', not {shown(value)}")
        return value

    @property
    def needed(self) -> int:
        """How many clients must offer the task before the first round: the size, else `min_survivors`.

        Under `secagg` at least as many as any of its sums must hold: three, or c + 2.
        """
        if self.protection.mode == "sealed":
            return self.cohort.size or max(1, self.cohort.min_survivors)
        fewest = max(FEWEST, self.protection.max_colluding + 2)
        return self.cohort.size or max(fewest, self.cohort.min_survivors)

    def minimum(self, cohort: int) -> int:
        """Return how many of `cohort` clients must upload under `sealed`, or the attempt fails.

        `min_survivors` where the plan names it.  Automatic is half the cohort, rounded up, and at least 1: a
        lost site does not stop a small federation, and no round is carried by a minority.  Under `secagg`
        the number follows from who may conspire, too: `secagg.shared.laying.terms_of`.
        """
        return self.cohort.min_survivors or max(1, ceil(cohort / 2))
