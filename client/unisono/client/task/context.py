"""What a task is told: where it runs (`Site`) and what the round asks for (`Context`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from unisono.plan import Plan

    from .base import Task

Counts = Mapping[str, tuple[float, float]]  # metric -> (sum, count): what federations can add up


@dataclass(frozen=True, slots=True)
class Site:
    """Where a task runs.

    Attributes:
        name: this client's name in the federation.
        number: 1, 2, ... in the order of enrolment; for examples that split one data set.
        data: the folder given with `--data`, or None.
        parameters: the plan's `[task_parameters]`: the task's own `Parameters` if it has them, else a dict.

    """

    name: str
    number: int = 1
    data: Path | None = None
    parameters: Any = field(default_factory=dict)


class Loops(Protocol):
    """The trainer's own loops, for tasks that do not bring theirs."""

    def train(self, task: "Task", model: Any, context: "Context") -> int: ...

    def evaluate(self, task: "Task", model: Any, context: "Context") -> Counts: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a round asks of a task.

    Attributes:
        round: 1, 2, ...
        epochs: passes over the training data, as are `batch_size`, `optimizer` and `learning_rate` from the
            plan's `[training]`.
        seed: of this round at this site; torch, NumPy and `random` have been seeded with it already.
        device: "cpu" or "cuda".
        progress: call it as `progress(done, total)` at least every few seconds: a client that shows no
            progress for the plan's `idle_seconds` is taken for lost.
        plan: the whole plan.
        loops: the trainer's own loops; `super().train(model, context)` reaches them more simply.

    """

    round: int
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    seed: int
    device: str
    progress: Callable[[int, int], None]
    plan: "Plan"
    loops: Loops = field(repr=False)
