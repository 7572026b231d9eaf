"""A task with its model, ready to be measured and trained: what rounds, checks and predictions share."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from unisono.base.errors import BadConfiguration
from unisono.client.task import Context, Counts, Loops, Task
from unisono.plan import Plan

from . import seeding
from .failures import user_code
from .model import Held, hold


class OwnLoops(Loops, Protocol):
    """What the trainer asks of its own loops beside what tasks may call."""

    def metric_names(self, task: Task, model: Any, context: Context) -> tuple[str, ...]: ...

    def predictions(self, task: Task, model: Any, context: Context) -> Iterator[Any]: ...


class NoLoops:
    """For plain arrays, whose tasks bring their own loops."""

    def train(self, task: Task, model: Any, context: Context) -> int:
        raise BadConfiguration(f"model() gives plain arrays, so {type(task).__name__} must have train()")

    def evaluate(self, task: Task, model: Any, context: Context) -> Counts:
        """Return nothing: without torch there is no loss to add up."""
        return {}

    def metric_names(self, task: Task, model: Any, context: Context) -> tuple[str, ...]:
        return tuple(sorted(task.evaluate(model, context)))

    def predictions(self, task: Task, model: Any, context: Context) -> Iterator[Any]:
        """Predict the held-out data as one batch."""
        data = task.eval_data()
        if data is not None:
            yield task.predict(model, data)


class Workbench:
    """Makes the model and the contexts of one task; brings torch in only if the task does.

    `most` limits every pass to that many batches.
    """

    def __init__(self, task: Task, plan: Plan, device: str, threads: int, most: int | None = None) -> None:
        self.task, self.plan, self._threads, self._most = task, plan, threads, most
        self._wanted = device
        self.device = "cpu"
        self.loops: OwnLoops = NoLoops()
        self._had_torch = prepare(threads)

    def make(self) -> Held:
        """Make the model from the plan's seed.  Raises Failed."""
        with user_code():
            made = self._made()
            if prepare(self._threads) and not self._had_torch:
                self._had_torch = True
                made = self._made()  # the first model() was what imported torch, so it was not seeded
            if self._had_torch and not isinstance(made, dict):
                self._use_torch()
            return hold(made, self.device)

    def context(self, stage: str, round_number: int, progress: Callable[[int, int], None]) -> Context:
        """Return what a stage of a round asks for, everything random seeded for it alone."""
        training = self.plan.training
        seed = seeding.derive(self.plan.seed, stage, round_number, self.task.site.name)
        seeding.seed_all(seed)
        return Context(
            round=round_number,
            epochs=training.epochs,
            batch_size=training.batch_size,
            optimizer=training.optimizer,
            learning_rate=training.learning_rate,
            seed=seed,
            device=self.device,
            progress=progress,
            plan=self.plan,
            loops=self.loops,
        )

    def metric_names(self, made: Any) -> tuple[str, ...]:
        """Return the names of the task's metrics.  Raises Failed."""
        context = self.context("describe", 0, unseen)
        with user_code():
            if self.task.metric_names:
                return tuple(self.task.metric_names)
            return self.loops.metric_names(self.task, made, context)

    def _made(self) -> Any:
        seeding.seed_all(seeding.derive(self.plan.seed, "model"))
        return self.task.model()

    def _use_torch(self) -> None:
        from .torch_loops import TorchLoops, best_device  # noqa: PLC0415

        self.device = best_device() if self._wanted == "auto" else self._wanted
        self.loops = TorchLoops(self.task.site.name, self._most)


def prepare(threads: int) -> bool:
    """Make torch repeatable if the task has loaded it; tell whether it has."""
    if "torch" not in sys.modules:
        return False
    from . import torch_loops  # noqa: PLC0415

    torch_loops.prepare(threads)
    return True


def unseen(done: int, total: int) -> None:
    """Take progress that nobody waits for."""
