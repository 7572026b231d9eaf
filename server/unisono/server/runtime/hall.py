"""The parts of a running coordinator, and its active runs: the one object that `runtime` shares."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from unisono.base.clock import Clock
from unisono.base.errors import NotFound
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import Entropy, SealingKey
from unisono.identity import Authority
from unisono.server.blobs import LocalDir, Spool
from unisono.server.config import Config
from unisono.server.enrolment import Ledger
from unisono.server.rounds import Waiting
from unisono.server.store import Store
from unisono.server.tracking import Recorder
from unisono.telemetry.meters import Meters

from .bell import Bells
from .instructions import Outcome
from .lineage import Lineage
from .presence import Presence
from .receipts import Receipts
from .sums import Sums
from .workers import Workers

T = TypeVar("T")
log = structlog.get_logger("unisono.hall")


@dataclass(slots=True)
class Hall:
    """What there is.  Only `runtime` changes it; services ask."""

    config: Config
    clock: Clock
    entropy: Entropy
    authority: Authority
    sealing_key: SealingKey
    sealing_certificate: bytes
    store: Store
    ledger: Ledger
    blobs: LocalDir
    spool: Spool
    presence: Presence
    workers: Workers
    sums: Sums
    receipts: Receipts
    tracking: Recorder | None = None
    bells: Bells = field(default_factory=Bells)
    runs: dict[RunId, Lineage] = field(default_factory=dict)  # active ones, the oldest first
    ended: dict[ClientName, Outcome] = field(
        default_factory=dict
    )  # each client's last, of runs that are over
    watchers: Bells = field(default_factory=Bells)
    tasks: set[asyncio.Task[object]] = field(default_factory=set)
    filing: asyncio.Lock = field(default_factory=asyncio.Lock)  # whoever deletes files, or finds one to keep
    meters: Meters = field(default_factory=Meters)
    phases: dict[RunId, tuple[str, float]] = field(default_factory=dict)  # of active runs, since which tick
    held: Counter[Digest] = field(default_factory=Counter)  # files that a row is about to name

    problems: list[str] = field(
        default_factory=list
    )  # found at the start; for health and the operator's eyes

    def say(self, problem: str) -> None:
        """Note what somebody has to look at."""
        self.problems.append(problem)
        log.error("problem", text=problem)

    async def whole(self, work: Coroutine[object, object, T]) -> T:
        """Do all of it, also if whoever asked hangs up: what is saved has to be acted on."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def hold(self, *files: Digest) -> AsyncIterator[None]:
        """Keep files from being deleted, as no run's, before the row is written that names them."""
        async with self.filing:
            self.held.update(files)
        try:
            yield
        finally:
            self.held.subtract(files)
            self.held += Counter()  # drops the zeros

    def active(self, run: RunId) -> Lineage:
        """Return an active run.  Raises NotFound."""
        found = self.runs.get(run)
        if found is None:
            raise NotFound(f"run {run} is not active")
        return found

    def offering(self, lineage: Lineage) -> Iterable[ClientName]:
        """Return the clients online that offer the run's task."""
        return [c for c, s in self.presence.online().items() if lineage.plan.task in s.greeting.tasks]

    def census(self, client: ClientName) -> tuple[int, int, int]:
        """Return how many clients are online, how many are enrolled, and this client's number."""
        return len(self.presence.online()), self.ledger.enrolled(), self.ledger.number(client)

    def ring(self, lineage: Lineage) -> None:
        """Wake those whom this run may concern."""
        concerned = set(lineage.members())
        if isinstance(lineage.run.stage, Waiting) or lineage.plan.cohort.roster == "open":
            concerned |= set(self.offering(lineage))
        self.bells.ring(concerned)
        self.watchers.ring((lineage.id,))
