"""`unisono task check`: a few batches of everything that a task does, and what is wrong in words.

Each step stands on those before it, so the first problem ends the examination.
"""

import math
import traceback
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np

from unisono.base.errors import BadConfiguration
from unisono.base.ids import Digest
from unisono.base.units import show_bytes
from unisono.client.task import Counts, Task
from unisono.crypto import Sha256
from unisono.plan import Plan
from unisono.tensors import Manifest, check_finite, parse_header

from .asking import Finding
from .failures import Failed, of_our_own, user_code
from .model import STEP, Held
from .model_file import load
from .update import delta
from .workbench import Workbench, unseen

BATCHES = 3  # of each pass: enough to see a last state carried from batch to batch

ADVICE = {
    "task": "fix the spelling, or the import, and run the check again from the same folder",
    "model": "model() must run without data and return a torch.nn.Module or a dict of NumPy arrays",
    "metrics": "loss(model, batch) returns a scalar tensor, metrics(model, batch) {name: (sum, count)}",
    "evaluate": "evaluate (or loss and metrics on eval_data()) must run in eval mode and give finite numbers",
    "safetensors": "every tensor of state_dict() must be writable in place",
    "train": "train (or loss and optimizer on train_data()) must run for an epoch and stay finite",
    "repeat": "draw only from torch, numpy.random and random, and keep nothing from one call to the next",
}


class Examination:
    """One task, looked at once.  `task` makes it, since already that may fail."""

    def __init__(self, task: Callable[[], Task], plan: Plan, device: str) -> None:
        self._make, self._plan, self._device = task, plan, device

    def findings(self) -> Iterator[Finding]:
        """Yield a line a step; stop after the first problem."""
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("task", self._task),
            ("model", self._model),
            ("metrics", self._metrics),
            ("evaluate", self._evaluate),
            ("safetensors", self._safetensors),
            ("train", self._train),
            ("repeat", self._repeat),
        )
        for step, look in steps:
            try:
                yield Finding(step, "ok", look())
            except Exception as raised:
                traceback.print_exc()
                failed = of_our_own(raised)
                yield Finding(step, "problem", failed.detail or str(failed), ADVICE[step])
                return

    def _task(self) -> str:
        task = self._make()
        self._bench = Workbench(task, self._plan, self._device, threads=1, most=BATCHES)
        return f"{type(task).__name__} at site {task.site.name}, number {task.site.number}"

    def _model(self) -> str:
        self._held = self._bench.make()
        self._manifest = Manifest(self._held.entries())
        if not self._manifest.length:
            raise BadConfiguration(
                "no tensor of the model is trainable, so there is nothing to learn together"
            )
        still = [e for e in self._manifest.entries if not e.travels]
        kept = f"; {len(still)} stay as they are: {', '.join(e.name for e in still)[:80]}" if still else ""
        return (
            f"{len(self._manifest.entries)} tensors, {self._manifest.length} trainable values, "
            f"{show_bytes(self._manifest.file_bytes)}, on {self._bench.device}{kept}"
        )

    def _metrics(self) -> str:
        names = self._bench.metric_names(self._held.made)
        self._manifest = Manifest(self._manifest.entries, names)
        return f"{', '.join(names) or 'none'} from one batch"

    def _evaluate(self) -> str:
        context = self._bench.context("evaluate", 1, unseen)
        with user_code():
            counts = self._bench.task.evaluate(self._held.made, context)
            shown = _means(counts)
        return shown or "this site has no held-out data, so it adds nothing to the run's metrics"

    def _safetensors(self) -> str:
        """Write the model as a file and store it again: what every round does."""
        self._file = _plain(self._held, self._manifest)
        entries = parse_header(self._file[: len(self._manifest.header)], len(self._file))
        load(self._held, self._manifest, self._read)
        if _plain(self._held, self._manifest) != self._file:
            raise BadConfiguration("the model stored from its own file is not the same model")
        return f"{len(entries)} tensors written, read and stored again"

    def _train(self) -> str:
        self._first, examples, norm = self._trained()
        if not norm:
            raise BadConfiguration("training changed nothing; is the optimiser given these parameters?")
        return f"{examples} examples in at most {BATCHES} batches an epoch changed the model by {norm:.3g}"

    def _repeat(self) -> str:
        again, _, _ = self._trained()
        if again != self._first:
            raise BadConfiguration(
                "the same seed gave another update: a round done again after a crash would not repeat"
            )
        return "the same seed gives the same update, bit for bit"

    def _trained(self) -> tuple[Digest, int, float]:
        """Train from the first model; return digest and norm of the delta, and the examples."""
        load(self._held, self._manifest, self._read)
        context = self._bench.context("train", 1, unseen)
        with user_code():
            found = self._bench.task.train(self._held.made, context)
            examples = len(self._bench.task.train_data()) if found is None else found
        if examples < 1:
            raise Failed("no_data", f"training used {examples} examples")
        differs = Manifest(self._held.entries(), self._manifest.metrics).difference(self._manifest)
        if differs:
            raise BadConfiguration(f"training changed the model's tensors: {differs}")
        digest, norm = self._change()
        return digest, int(examples), norm

    def _change(self) -> tuple[Digest, float]:
        """Return digest and norm of trained minus first model.  Raises BadUpdate if it is not finite."""
        change, sha256, squares = delta(self._held, self._read), Sha256(), 0.0
        for piece in self._manifest.pieces():
            for begin in range(0, piece.entry.size if piece.entry.travels else 0, STEP):
                values = change(piece, begin, min(begin + STEP, piece.entry.size))
                check_finite(values, f'the change of tensor "{piece.entry.name}"')
                sha256.update(values)
                squares += float(np.square(values, dtype=np.float64).sum())
        return sha256.hexdigest(), math.sqrt(squares)

    def _read(self, offset: int, length: int) -> bytes:
        return self._file[offset : offset + length]


def _plain(held: Held, manifest: Manifest) -> bytes:
    """Return the plain safetensors file of a model."""
    file = BytesIO()
    file.write(manifest.header)
    for piece in manifest.pieces():
        for begin in range(0, piece.entry.size, STEP):
            file.write(held.raw(piece.entry.name, begin, min(begin + STEP, piece.entry.size)))
    return file.getvalue()


def _means(counts: Counts) -> str:
    """Return means for people.  Raises BadConfiguration for a number that is not finite."""
    shown = []
    for name, (total, number) in counts.items():
        if not (math.isfinite(total) and math.isfinite(number)):
            raise BadConfiguration(f"{name} is {total} over {number} examples")
        if number:
            shown.append(f"{name} {total / number:.3g}")
    return ", ".join(shown)
