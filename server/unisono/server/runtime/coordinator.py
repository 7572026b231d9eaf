"""The runs of a coordinator and the clock that drives them: starts drivers, notices silence, rings bells."""

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars

from unisono import plan as plans
from unisono.base.errors import Corrupt, Error, NotFound
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.blobs import Reader
from unisono.server.rounds import (
    Aggregate,
    Effect,
    Ended,
    Event,
    Fact,
    Lost,
    Offered,
    RoundPublished,
    Run,
    RunEnded,
    StopAsked,
    duty,
    expects,
    revive,
    spared,
)
from unisono.tensors import Manifest

from .driver import Driver
from .hall import Hall
from .lineage import Lineage, outcome_of
from .publishing import Publisher
from .tally import Metered, began, tally

log = structlog.get_logger("unisono.coordinator")
BEAT = 0.25  # seconds between two looks at who is silent
DAY = 86_400.0
KEPT_ORPHANS = 7 * DAY  # seconds that a file stays that no run needs
FEW = 4  # such files that a crash may leave: a model, the vectors of a strategy, an operator's file
REMEMBERED = 100  # runs that ended last, whose members are told so after a restart
AGAIN = 1.0  # seconds until a driver that died is started again


class Coordinator:
    """Owns every task of the process.  Nothing else spawns one."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._publisher = Publisher(hall)
        self._heart: asyncio.Task[None] | None = None
        self._noted: dict[tuple[RunId, ClientName], str] = {}  # what the log has of clients' own limits

    async def open(self) -> None:
        """Go on with every run that had not ended."""
        await self._sweep()
        for run in await self._hall.workers.database(self._hall.store.active):
            try:
                await self.start(run)
            except Error as error:  # a damaged row stops its own run, not the others
                log.error("run_not_loaded", run=run, code=error.code, error=str(error))
        for lineage in list(self._hall.runs.values()):
            await self._look_at_model(lineage)
        await self._remember()
        self._heart = asyncio.create_task(self._beat())

    async def _look_at_model(self, lineage: Lineage) -> None:
        """End a run whose model is not here, or damaged: nobody could ever begin its next round."""
        model = lineage.run.model
        if model is None:
            return
        try:
            (await self._hall.workers.open(partial(self._hall.blobs.open, model), Reader.close)).close()
        except (NotFound, Corrupt) as error:
            self._hall.say(f"{lineage.id} cannot go on: its model is lost: {error}")
            await self._tell(lineage, StopAsked(f"the coordinator: its model is lost: {error}"))

    async def _remember(self) -> None:
        """Know again how each client's last run ended: who has not heard keeps its files and secrets."""
        for run, ended in await self._hall.workers.database(self._hall.store.ended, REMEMBERED):
            for client in ended.roster:
                outcome = outcome_of(run, ended, client)
                if outcome is not None:
                    self._hall.ended.setdefault(client, outcome)

    async def close(self) -> None:
        """Stop driving; what is saved goes on at the next start."""
        tasks = [*self._hall.tasks, *([self._heart] if self._heart else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, run: RunId) -> None:
        """Load a run and drive it."""
        stored = await self._hall.workers.database(self._hall.store.load, run)
        plan = plans.from_canonical(stored.plan)
        agreed = stored.run.manifest
        body = await self._hall.workers.database(self._hall.store.manifest, agreed) if agreed else None
        manifest = Manifest.decode(body) if body is not None else None
        stored = replace(stored, run=revive(stored.run, run, manifest, stored.rows))
        store = Metered(self._hall.store, self._hall.meters)
        most = self._hall.config.max_waiting_events
        driver = Driver(run, plan, stored, store, self, self._hall.workers, self._hall.clock, most)
        lineage = Lineage(run, plan, stored.plan, plans.digest(plan), driver)
        if manifest is not None:
            lineage.manifests[manifest.digest] = manifest
        self._hall.runs[run] = lineage
        began(self._hall, run, stored.run)
        log.info("run_active", run=run, task=plan.task, stage=stored.run.stage.kind)
        task = asyncio.create_task(self._live(lineage))
        self._hall.tasks.add(task)
        task.add_done_callback(self._hall.tasks.discard)
        for client in self._hall.offering(lineage):
            await self._tell(lineage, Offered(client))
        self._hall.ring(lineage)

    async def _sweep(self) -> None:
        """Delete what a crash left between a file and the row that says who needs it; say what is missing.

        Not at once: after a restore the rows may be older than the files, and another backup may fit better.
        """
        database, file = self._hall.workers.database, self._hall.workers.file
        needed, present = await database(self._hall.store.owned), await file(self._hall.blobs.digests)
        old = self._hall.clock.wall() - KEPT_ORPHANS
        kept = [d for d in sorted(present - needed) if not await file(self._hall.blobs.delete_older, d, old)]
        if (
            len(kept) > FEW
        ):  # one crash leaves no more: state.db was restored, and the files are of a later one
            self._hall.say(
                f"{len(kept)} files in blobs/ belong to no run: was state.db restored from a backup? "
                f"They stay for {KEPT_ORPHANS / DAY:.0f} days"
            )
        for run, count in (await self._missing(needed - present)).items():
            self._hall.say(f"{run} misses {count} of its files in blobs/: restore them from a backup")
        active = await database(self._hall.store.active)
        for run in await file(self._hall.spool.runs):
            if run not in active:
                await file(self._hall.spool.forget_run, run)

    async def _missing(self, files: frozenset[Digest]) -> Counter[RunId]:
        """Return how many of its files each run misses."""
        found = Counter[RunId]()
        for digest in files:
            found.update(await self._hall.workers.database(self._hall.store.find_model, digest))
        return found

    async def act(self, run: RunId, effect: Effect) -> Event | None:
        """Carry out an effect of a driver."""
        event = await self._publisher.act(run, effect)
        if isinstance(effect, Aggregate):
            log.info("aggregated", run=run, round=effect.round, attempt=effect.attempt, what=effect.what)
        return event

    def changed(self, run: RunId, before: Run, facts: tuple[Fact, ...]) -> None:
        """Wake whoever may want to know that a run moved."""
        lineage = self._hall.runs[run]
        after = lineage.run
        tally(self._hall, run, before, after, facts)
        if self._hall.tracking is not None:
            model = None if after.model is None else (after.round, after.model)
            self._hall.tracking.take(run, lineage.plan, facts, model)
        concerned = set(lineage.members())
        told = any(isinstance(fact, RoundPublished | RunEnded) for fact in facts)
        if before.stage.kind == after.stage.kind == "in_round" and not told:
            concerned = {c for c in concerned if _differs(lineage, before, c)}
        elif after.stage.kind == "waiting" or lineage.plan.cohort.roster == "open":
            concerned |= set(self._hall.offering(lineage))
        self._hall.bells.ring(concerned)
        self._hall.watchers.ring((run,))
        for fact in facts:
            if isinstance(fact, RoundPublished):
                log.info("round_published", run=run, round=fact.round, survivors=len(fact.survivors))
            if isinstance(fact, RunEnded):
                log.info("run_ended", run=run, state=fact.state, reason=fact.reason)

    async def expel(self, client: ClientName, reason: str) -> None:
        """End what a revoked client takes part in, and wake its long poll, which is then refused."""
        self._hall.presence.forget(client)
        self._hall.bells.ring((client,))
        for lineage in list(self._hall.runs.values()):
            if client in lineage.members():
                await self._tell(lineage, Lost(client, f"revoked ({reason})" if reason else "revoked"))

    async def pause(self, seconds: float) -> None:
        """Wait a little, so that a watched run is not shown more often than a person can read."""
        await asyncio.sleep(seconds)

    async def _live(self, lineage: Lineage) -> None:
        clear_contextvars()  # of the call that started it
        bind_contextvars(run=lineage.id)
        try:
            await lineage.driver.live()
        except Exception:  # a bug: begin again from what is saved, as after a crash
            log.exception("driver_died", run=lineage.id)
            await self._start_again(lineage.id)
            return
        for client in lineage.run.roster:
            outcome = lineage.outcome(client)
            if outcome is not None:
                self._hall.ended[client] = outcome
        if isinstance(lineage.run.stage, Ended):
            await self._hall.workers.sum(self._hall.sums.drop, lineage.id)
        self._publisher.release(lineage.id)
        members = lineage.members()
        self._hall.presence.silence(lineage.id, ())
        del self._hall.runs[lineage.id]
        self._hall.phases.pop(lineage.id, None)
        self._hall.bells.ring(members)
        self._hall.watchers.ring((lineage.id,))

    async def _start_again(self, run: RunId) -> None:
        while True:
            await asyncio.sleep(AGAIN)
            try:
                await self.start(run)
                return
            except Exception:
                log.exception("not_started", run=run)

    async def _beat(self) -> None:
        """Tell runs whose clients have been silent for too long."""
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self.look()
            except Exception:  # without this clock nobody would ever be given up
                log.exception("beat_failed")

    async def look(self) -> None:
        """Report those of whom nothing was heard for as long as their run's plan allows."""
        noted = {}
        for lineage in list(self._hall.runs.values()):
            silence = self._hall.presence.silence(lineage.id, expects(lineage.run))
            limit = lineage.plan.rounds.idle_seconds
            for client, quiet in silence.items():
                if note := self._hall.presence.note(client, lineage.id):
                    noted[lineage.id, client] = note
                if quiet >= limit:
                    await self._tell(lineage, Lost(client, f"silent for {limit:g} s"))
            rested, grace = self._hall.presence.rested, lineage.plan.rounds.grace_seconds
            resting = frozenset(client for client in silence if rested(client, lineage.id) >= grace)
            for client in sorted(spared(lineage.plan, lineage.run, resting)):
                await self._tell(lineage, Lost(client, self._hall.presence.note(client, lineage.id)))
        for (run, client), note in noted.items() - self._noted.items():
            log.info("waiting", run=run, client=client, reason=f"{client} {note}")
        self._noted = noted

    @staticmethod
    async def _tell(lineage: Lineage, event: Offered | Lost | StopAsked) -> None:
        try:
            await lineage.driver.handle(event)
        except Error as error:  # the run moved on, or the disk is full: all of these are told again
            log.debug("not_told", run=lineage.id, what=type(event).__name__, error=str(error))


def _differs(lineage: Lineage, before: Run, client: ClientName) -> bool:
    return duty(lineage.plan, before, client) != duty(lineage.plan, lineage.run, client)
