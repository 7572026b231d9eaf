"""Training and evaluation as the plan says them, for tasks that do not bring their own loops."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import nn

from unisono.base.errors import BadConfiguration
from unisono.client.task import Context, Counts, Task

from . import seeding
from .batches import Batch, Feed, count, feed
from .failures import Failed
from .quick_torch import bare_step, skip_compiler

OPTIMISERS: Mapping[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
WIDER = 4  # evaluation keeps nothing for a backward pass, so its batches may be larger


def prepare(threads: int) -> None:
    """Make torch repeatable: fixed threads, deterministic algorithms where they exist."""
    torch.set_num_threads(threads)
    # as use_deterministic_algorithms(True, warn_only=True), which also imports the compiler: 1.5 s and 90 MB
    torch.set_deterministic_debug_mode("warn")


def best_device() -> str:
    """Return what "auto" means here."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class TorchLoops:
    """Reads a task's data once and keeps it.  `most` batches a pass, for checking a task."""

    def __init__(self, client: str, most: int | None = None) -> None:
        self._client, self._most = client, most
        self._data: dict[str, Any] = {}

    def train(self, task: Task, model: nn.Module, context: Context) -> int:
        """Run the plan's epochs; return the examples of one."""
        feed_ = self.training(task, context)
        optimiser, step = _optimiser(task, model, context)
        total = context.epochs * (feed_.steps or 0)
        done = examples = 0
        for epoch in range(context.epochs):
            model.train()
            for batch in islice(feed_.once(), self._most):
                optimiser.zero_grad(set_to_none=True)
                task.loss(model, batch).backward()
                step()
                examples += count(batch) if epoch == 0 else 0
                done += 1
                context.progress(done, max(total, done) if total else 0)
        return examples

    def evaluate(self, task: Task, model: nn.Module, context: Context) -> Counts:
        """Return sums and counts over the held-out data."""
        held_out = self.held_out(task, context)
        if held_out is None:
            return {}
        sums: dict[str, tuple[float, float]] = {}
        model.eval()
        for done, batch in enumerate(islice(held_out.once(), self._most), start=1):
            for name, (value, number) in measured(task, model, batch).items():
                before = sums.get(name, (0.0, 0.0))
                sums[name] = (before[0] + value, before[1] + number)
            context.progress(done, max(held_out.steps, done) if held_out.steps else 0)
        return sums

    def metric_names(self, task: Task, model: nn.Module, context: Context) -> tuple[str, ...]:
        """Return the names of the metrics, found on the first batch of the held-out or training data.

        A task with an `evaluate` of its own is asked by running that.
        """
        if type(task).evaluate is not Task.evaluate:
            return tuple(sorted(task.evaluate(model, context)))
        found = self.held_out(task, context) or self.training(task, context)
        first = next(found.once(), None)
        if first is None:
            raise Failed("no_data", "train_data() and eval_data() are empty")
        model.eval()
        names = measured(task, model, first)
        return ("loss", *sorted(name for name in names if name != "loss"))

    def training(self, task: Task, context: Context, *, shuffled: bool = True) -> Feed:
        """Return the training data.  Raises Failed if there is none."""
        data = self._read("train", task, context)
        if data is None:
            raise Failed("no_data", "train_data() returned None")
        order = torch.Generator().manual_seed(context.seed) if shuffled else None
        return feed(data, context.batch_size, context.device, order)

    def held_out(self, task: Task, context: Context) -> Feed | None:
        data = self._read("eval", task, context)
        if data is None:
            return None
        return feed(data, WIDER * context.batch_size, context.device, None)

    def predictions(self, task: Task, model: nn.Module, context: Context) -> Iterator[Any]:
        """Yield the task's predictions of each held-out batch, moved to where NumPy can read them."""
        held_out = self.held_out(task, context)
        model.eval()
        for batch in held_out.once() if held_out else ():
            with torch.no_grad():
                found = task.predict(model, batch)
            yield _readable(found) if isinstance(found, torch.Tensor) else found

    def _read(self, which: str, task: Task, context: Context) -> Any:
        """Return the data, read once with a seed of its own: it may split or augment at random."""
        if which not in self._data:
            with seeding.seeded(seeding.derive(context.plan.seed, "data", which, self._client)):
                self._data[which] = task.train_data() if which == "train" else task.eval_data()
        return self._data[which]


def measured(task: Task, model: nn.Module, batch: Batch) -> dict[str, tuple[float, float]]:
    """Return the sums and counts of one batch.  Raises BadConfiguration for metrics of another form."""
    examples = count(batch)
    with torch.no_grad():
        loss = float(task.loss(model, batch))
        found = task.metrics(model, batch)
    named = {"loss": (loss * examples, float(examples))}
    for name, pair in found.items():
        if name in named or not isinstance(pair, tuple) or len(pair) != 2:
            raise BadConfiguration(f'metrics() gives "{name}": {pair!r:.60}; give {{name: (sum, count)}}')
        named[name] = (float(pair[0]), float(pair[1]))
    return named


def _optimiser(task: Task, model: nn.Module, context: Context) -> tuple[Any, Callable[[], object]]:
    """Return the task's or the plan's optimiser, and how to take a step with it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    skip_compiler()
    own = task.optimizer(parameters)
    if own is not None:
        return own, own.step
    made = OPTIMISERS[context.optimizer](parameters, lr=context.learning_rate)
    return made, bare_step(made)


def _readable(found: torch.Tensor) -> Any:
    here = found.detach().cpu()
    return (here.float() if here.is_floating_point() else here).numpy()
