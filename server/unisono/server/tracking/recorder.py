"""Hands what happens to a tracker, in a thread of its own.

A tracker that is slow makes a queue, one that is slower still loses the rest, one that fails loses what it
failed on: each is logged once.  Nothing of it reaches a run.
"""

import json
import queue
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Thread
from typing import Literal

import structlog

from unisono import plan as plans
from unisono.base.clock import Clock
from unisono.base.ids import Digest, RunId
from unisono.plan import Plan
from unisono.server.rounds import Fact, MetricsKnown, ModelKept, RoundPublished, RunEnded

from .contract import Begin, Tracker

log = structlog.get_logger("unisono.tracking")
Wanted = Literal["none", "last", "all"]
Copy = Callable[[Digest, Path], None]  # a model's plain bytes to a file
Job = Callable[[Tracker], None]
MOST = 10_000  # things that wait
CLOSING = 10.0  # seconds for what waits when the coordinator stops


class Recorder:
    """Everything but `_work` belongs to the event loop's thread, and returns at once."""

    def __init__(self, tracker: Tracker, copy: Copy, wanted: Wanted, clock: Clock, most: int = MOST) -> None:
        self._tracker, self._copy, self._wanted, self._clock = tracker, copy, wanted, clock
        self._jobs: queue.Queue[Job | None] = queue.Queue(most)
        self._begun: set[RunId] = set()
        self._models: dict[RunId, tuple[int, Digest]] = {}
        self._said: set[str] = set()
        self._thread = Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def take(
        self, run: RunId, plan: Plan, facts: Iterable[Fact], model: tuple[int, Digest] | None = None
    ) -> None:
        """Note what a saved step brought.  `model`: the run's last one, perhaps of before a restart."""
        wall = self._clock.wall()
        if model is not None and facts:
            self._models.setdefault(run, model)
        for fact in facts:
            if run not in self._begun:
                self._begun.add(run)
                self._begin(_about(run, plan))
            self._fact(run, fact, wall)

    def close(self) -> None:
        """Give the tracker some seconds to write what waits."""
        try:
            self._jobs.put(None, timeout=CLOSING / 2)  # also behind a full queue, else it is never closed
        except queue.Full:
            self._say("tracking_too_slow", "what waits when the coordinator stops is left out")
            return
        self._thread.join(CLOSING / 2)

    def _begin(self, about: Begin) -> None:
        self._put(lambda tracker: tracker.begin(about))

    def _fact(self, run: RunId, fact: Fact, wall: float) -> None:
        match fact:
            case MetricsKnown(round_, metrics):
                self._metrics(run, round_, dict(metrics), wall)
            case RoundPublished():
                values = {"cohort": len(fact.cohort), "survivors": len(fact.survivors)}
                values |= {"attempts": fact.attempts}
                self._metrics(run, fact.round, {"seconds": fact.seconds} | values, wall)
            case ModelKept(round_, model):
                self._models[run] = round_, model
                if self._wanted == "all":
                    self._model(run)
            case RunEnded(state, reason):
                if self._wanted == "last":
                    self._model(run)
                self._put(lambda t: t.end(run, state, reason))
                self._begun.discard(run)
                self._models.pop(run, None)
            case _:
                pass

    def _metrics(self, run: RunId, round_: int, values: Mapping[str, float], wall: float) -> None:
        self._put(lambda t: t.metrics(run, round_, values, wall))

    def _model(self, run: RunId) -> None:
        if run not in self._models:
            return
        round_, digest = self._models[run]

        def keep(tracker: Tracker) -> None:
            with tempfile.TemporaryDirectory(prefix="unisono-") as folder:
                file = Path(folder) / f"model-{round_:04d}.safetensors"
                self._copy(digest, file)
                tracker.model(run, round_, file)

        self._put(keep)

    def _put(self, job: Job) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._say("tracking_too_slow", f"{self._jobs.maxsize} things wait; what comes now is left out")

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)
        self._do(lambda tracker: tracker.close())

    def _do(self, job: Job) -> None:
        try:
            job(self._tracker)
        except (Exception, SystemExit) as error:  # libraries do end the process; here it is theirs alone
            self._say("tracking_failed", f"{type(error).__name__}: {error}")

    def _say(self, event: str, why: str) -> None:
        """Log a kind of trouble the first time."""
        if event not in self._said:
            self._said.add(event)
            log.warning(event, reason=why, advice="runs are not disturbed; this is said once")


def _about(run: RunId, plan: Plan) -> Begin:
    table = json.loads(plans.canonical(plan))
    return Begin(run, plan.task, plans.digest(plan), dict(flat(table)))


def flat(table: Mapping[str, object], above: str = "") -> Iterable[tuple[str, str]]:
    """Yield a plan's keys with their tables' names before them, and values as text."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            yield above + key, value if isinstance(value, str) else json.dumps(value)
