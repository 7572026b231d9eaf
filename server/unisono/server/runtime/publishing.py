"""Carries out effects: sums updates, writes the next model, deletes what is no longer needed."""

from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from unisono import strategies
from unisono.base.errors import Fault, PeerFault
from unisono.base.ids import ClientName, Digest, RunId
from unisono.codec import Spec, decode_head, next_bound, rotation_stream
from unisono.plan import Plan
from unisono.plan import digest as plan_digest
from unisono.plan.layout import layout_of
from unisono.secagg.server import Opening, Revealing, check_sum, open_masks
from unisono.secagg.server.faults import BadShares, BadVault, SumMismatch, TooFewShares
from unisono.server.aggregation import Apply, Inputs, Outcome, read_head
from unisono.server.blobs import Blob, LocalDir, Reader
from unisono.server.rounds import (
    Aggregate,
    Aggregated,
    Effect,
    Event,
    Failure,
    Forget,
    NotOpened,
    Prune,
    Run,
    protected,
)
from unisono.tensors import Manifest

from .hall import Hall
from .layout import seal_context
from .lineage import Lineage
from .sums import Masked, Sealed, Spooled
from .workers import at_once

log = structlog.get_logger("unisono.publishing")
AHEAD = 4  # segments of a new model that wait for being written


class Publisher:
    """What the drivers' effects become."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._made: dict[RunId, tuple[Digest, ...]] = {}  # held until a saved step names them

    def release(self, run: RunId) -> None:
        """Let go of the files that this run made last: a row names them now, or they came to nothing."""
        self._hall.held.subtract(self._made.pop(run, ()))
        self._hall.held += Counter()  # drops the zeros

    async def act(self, run: RunId, effect: Effect) -> Event | None:
        """Carry out one effect; doing it twice does no harm.  Raises Unavailable to be asked again."""
        match effect:
            case Aggregate():
                return await self._aggregate(self._hall.active(run), effect)
            case Forget(round_, attempt):
                self.release(run)
                await self._hall.workers.sum(self._hall.sums.drop_until, run, round_, attempt)
                await self._hall.workers.file(self._hall.spool.forget, run, round_, attempt)
            case Prune(round_, keep):
                await self._prune(run, round_, frozenset(keep))
        return None

    async def _aggregate(self, lineage: Lineage, effect: Aggregate) -> Event:
        try:
            return await self._aggregated(lineage, effect)
        except TooFewShares as error:
            return NotOpened(effect.round, effect.attempt, str(error))
        except (BadShares, BadVault) as error:
            log.warning("not_opened", run=lineage.id, round=effect.round, error=str(error))
            return NotOpened(effect.round, effect.attempt, str(error), error.client)
        except (PeerFault, SumMismatch) as error:
            log.warning(
                "not_aggregated", run=lineage.id, round=effect.round, code=error.code, error=str(error)
            )
            await self._hall.workers.sum(self._hall.sums.drop, lineage.id)
            return Failure(effect.round, effect.attempt, str(error))

    async def _aggregated(self, lineage: Lineage, effect: Aggregate) -> Aggregated:
        plan, manifest = lineage.plan, lineage.manifest
        spec = layout_of(plan, manifest, effect.what, effect.round, effect.cohort, effect.bounds)
        updates = {c: self._spooled(lineage.id, effect, spec, c, digest) for c, digest in effect.updates}
        key = lineage.id, effect.round, effect.attempt, spec, updates
        if effect.masked:
            opening = await self._hall.workers.file(_opening, lineage.run)
            if opening.odd:
                log.warning("answered_falsely", run=lineage.id, round=effect.round, clients=opening.odd)
            total = await self._hall.workers.sum(self._hall.sums.opened, *key, opening.streams)
            head = decode_head(total[spec.head_offset :], spec)
            check_sum(head["one"], head["weight"], len(updates))
        else:
            total = await self._hall.workers.sum(self._hall.sums.total, *key)
        if effect.what == "evaluate":
            outcome = read_head(spec, total[spec.head_offset :], len(updates))
            return Aggregated(effect.round, effect.attempt, effect.model, tuple(outcome.metrics.items()))
        draft = await self._hall.workers.file(
            draft_model, self._hall.blobs, plan, manifest, spec, effect, total
        )
        async with self._hall.filing:  # another run of the same plan may be deleting the very same file
            made = await self._hall.workers.file(self._settle, draft)
            self.release(lineage.id)
            self._made[lineage.id] = (made.model, *made.state.values())
            self._hall.held.update(self._made[lineage.id])
        bounds = tuple(
            next_bound(part.bound, made.outcome.mean_norm[part.name], len(updates), part.length)
            for part in spec.parts
        )
        return Aggregated(
            effect.round,
            effect.attempt,
            made.model,
            tuple(made.outcome.metrics.items()),
            bounds,
            tuple(sorted(made.state.items())),
        )

    def _settle(self, draft: "Draft") -> "Made":
        with self._hall.meters.syncing():
            return draft.commit()

    def _spooled(
        self, run: RunId, effect: Aggregate, spec: Spec, client: ClientName, digest: Digest
    ) -> Spooled:
        path = self._hall.spool.path(run, effect.round, effect.attempt, client, digest)
        if effect.masked:
            return Masked(client, digest, path)
        context = seal_context(run, effect.round, client, effect.model, spec)
        return Sealed(client, digest, path, context)

    async def _prune(self, run: RunId, upto: int, keep: frozenset[Digest]) -> None:
        """Delete this run's blobs but those to keep, newer ones, and those that another run needs."""
        lineage = self._hall.runs.get(run)
        if lineage is not None:
            now = lineage.run
            keep |= {digest for _, digest in now.state} | ({now.model} if now.model else set())
        async with self._hall.filing:
            for digest in await self._hall.workers.database(self._hall.store.prunable, run, upto, keep):
                if digest not in self._hall.held:
                    await self._hall.workers.file(self._hall.blobs.delete, digest)
        await self._hall.workers.database(self._hall.store.pruned, run, upto, keep, self._hall.clock.wall())


def _opening(run: Run) -> Opening:
    """Rebuild the masks that are left in the sum, from the answers in the ledger."""
    stage = protected(run)
    if not isinstance(stage, Revealing):
        raise Fault(f"a sum is to be opened in the leg {stage.phase}")
    return open_masks(stage)


@dataclass(slots=True)
class Made:
    """A new model in the blob store."""

    model: Digest
    outcome: Outcome
    state: dict[str, Digest] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """A new model and its strategy's vectors, written and not yet in the blob store."""

    writers: dict[str | None, Blob]
    outcome: Outcome

    def commit(self) -> Made:
        """Put the files into the store; durable when this returns."""
        try:
            digests = {stream: writer.commit() for stream, writer in self.writers.items()}
        finally:
            for writer in self.writers.values():
                writer.abort()
        return Made(digests[None], self.outcome, {s: d for s, d in digests.items() if s is not None})


def draft_model(
    blobs: LocalDir, plan: Plan, manifest: Manifest, spec: Spec, effect: Aggregate, total: NDArray[np.uint64]
) -> Draft:
    """Write the next model and the strategy's vectors.  Memory: a few segments, and a rotated part.

    Everybody waits for this, so it takes all cores: for turning a sum back, and one for hashing, sealing and
    writing what the other works out.
    """
    strategy = strategies.load(plan.aggregation.strategy)
    parameters = strategy.Parameters.model_validate(plan.aggregation.parameters)
    readers: list[Reader] = []

    def reader(digest: Digest) -> Callable[[int, int], bytes]:
        readers.append(blobs.open(digest))
        return readers[-1].read

    writers: dict[str | None, Blob] = {}
    try:
        inputs = Inputs(
            spec=spec,
            manifest=manifest,
            strategy=strategy,
            parameters=parameters,
            survivors=len(effect.updates),
            model=reader(effect.model),
            sums=lambda offset, length: total.view(np.uint8).data[offset : offset + length],
            states={name: reader(digest) for name, digest in effect.state},
            signs=rotation_stream(plan.seed, effect.round, plan_digest(plan)) if effect.masked else b"",
            together=at_once,
        )
        for stream in (None, *strategy.state(parameters)):
            writers[stream] = blobs.writer()
        with ThreadPoolExecutor(1, "draft") as behind:
            work, waiting = Apply(inputs), deque[Future[None]]()
            for produced in work:
                waiting.append(behind.submit(writers[produced.state].write, produced.data))
                if len(waiting) > AHEAD:
                    waiting.popleft().result()
            for written in waiting:
                written.result()
        return Draft(writers, work.outcome)
    except BaseException:
        for writer in writers.values():
            writer.abort()
        raise
    finally:
        for opened in readers:
            opened.close()
