"""One task in one process, warm between rounds: open, describe, work."""

import os
from functools import partial
from pathlib import Path
from typing import Protocol

from unisono.base.ids import Digest
from unisono.client.task import Counts, Site, create, load
from unisono.codec import Spec, client_weight, rotation_stream, rounding_stream
from unisono.crypto import AtRest
from unisono.plan import digest, from_canonical
from unisono.strategies import load as load_strategy
from unisono.tensors import Manifest, Reader

from . import hooks, kept, model_file, update
from .at_rest import SealedFile
from .failures import Failed, user_code
from .model import Held
from .requests import Describe, Keep, Open, Work
from .workbench import Workbench


class Progress(Protocol):
    """Where signs of life go: stage, done, total."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


class Trainer:
    """Answers requests about one task.  Everything raised is Failed or a fault of our own."""

    def __init__(self, request: Open, progress: Progress) -> None:
        plan = from_canonical(request.plan)
        with user_code():
            site = Site(request.name, request.number, request.data)
            task = create(load(request.task), site, plan.task_parameters)
        self._plan, self._progress = plan, progress
        self._at_rest = AtRest(request.key)
        self._bench = Workbench(task, plan, request.device, request.threads)
        self._ready: tuple[Held, Manifest] | None = None
        self._local = hooks.find(load_strategy(plan.aggregation.strategy).needs.local)

    def describe(self, request: Describe) -> tuple[Manifest, Digest, int]:
        """Write the first model at rest; return its manifest, and digest and size of its plain file."""
        self._ready = None  # a used model is not the first one
        held, manifest = self._model()
        return manifest, model_file.save(held, manifest, request.out, self._at_rest), manifest.file_bytes

    def work(self, request: Work) -> update.Written:
        """Evaluate the model received, train it, write what travels.

        After a failure the model is made anew: the task may have left it in any state.
        """
        held, manifest = self._model()
        self._ready = None
        written = self._worked(request, held, manifest)
        self._ready = held, manifest
        return written

    def _worked(self, request: Work, held: Held, manifest: Manifest) -> update.Written:
        spec = Spec.decode(request.spec)
        for part in spec.parts:
            if part.length != manifest.length:
                raise Failed("model_differs", f"{manifest.length} values travel, the run has {part.length}")
        with SealedFile.of_model(request.model, self._at_rest, Digest(request.model_sha256)) as received:
            model_file.load(held, manifest, received.read)
            counts = self._evaluate(request, held)
            trained = self._train(request, held, received.read, counts)
            _check_same(held, manifest)
            head = self._head(counts, manifest, trained.examples)
            key = rounding_stream(
                self._plan.seed, request.round, self._bench.task.site.name, Digest(request.model_sha256)
            )
            return self._written(request, spec, update.Vector(manifest, trained.sources, head, key))

    def _written(self, request: Work, spec: Spec, vector: update.Vector) -> update.Written:
        progress = partial(self._progress, "writing")
        if isinstance(request.form, Keep):
            shelf = kept.Shelf(request.out, self._at_rest, request.form.context)
            signs = rotation_stream(self._plan.seed, request.round, digest(self._plan))
            return kept.keep(shelf, spec, vector, signs, progress)
        return update.write(request.out, spec, vector, request.form, progress)

    def _model(self) -> tuple[Held, Manifest]:
        if self._ready is None:
            held = self._bench.make()
            entries = held.entries()
            self._ready = held, Manifest(entries, self._bench.metric_names(held.made))
        return self._ready

    def _evaluate(self, request: Work, held: Held) -> Counts:
        self._progress("evaluating", 0, 0)
        context = self._bench.context("evaluate", request.round, partial(self._progress, "evaluating"))
        with user_code():
            found = self._bench.task.evaluate(held.made, context)
            return {name: (float(total), float(number)) for name, (total, number) in found.items()}

    def _train(self, request: Work, held: Held, received: Reader, counts: Counts) -> hooks.Trained:
        if request.what == "evaluate":
            measured = max((number for _, number in counts.values()), default=0.0)
            return hooks.Trained(max(1, int(measured)), {})
        self._progress("training", 0, 0)
        context = self._bench.context("train", request.round, partial(self._progress, "training"))
        lesson = hooks.Lesson(
            self._bench.task, held, received, context, self._bench.loops, self._plan.aggregation.parameters
        )
        return self._local(lesson)

    def _head(self, counts: Counts, manifest: Manifest, examples: int) -> dict[str, float]:
        new = sorted(counts.keys() - set(manifest.metrics))
        if new:
            raise Failed(
                "task_error", f'metric "{new[0]}" is not among those of the first batch: {manifest.metrics}'
            )
        head = {"one": 1.0, "weight": client_weight(examples, self._plan.training.max_examples)}
        for name in manifest.metrics:
            head[f"{name}.sum"], head[f"{name}.count"] = counts.get(name, (0.0, 0.0))
        return head


def resident_mb() -> float:
    """Return this process's resident memory in units of 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _check_same(held: Held, manifest: Manifest) -> None:
    differs = Manifest(held.entries(), manifest.metrics).difference(manifest)
    if differs:
        raise Failed("model_differs", f"after training ({differs})")
