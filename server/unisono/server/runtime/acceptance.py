"""Decides what may be uploaded, and makes events of what arrived."""

import shutil

from unisono.base.errors import BadMessage, BadUpdate, Corrupt, Refused, Unavailable, WrongPhase
from unisono.base.ids import ClientName, Digest
from unisono.base.units import show_bytes
from unisono.server.blobs import Reader
from unisono.server.rounds import Collecting, Initialising, InRound, ModelReceived, Phase, Securing, Uploaded
from unisono.tensors import MAX_HEADER, Manifest, check_header, norm, parse_header

from .hall import Hall
from .layout import seal_context
from .lineage import Lineage
from .room import Room
from .sums import Masked, Sealed
from .uploads import Key, Slot


class Acceptance:
    """The desk behind every upload."""

    def __init__(self, hall: Hall) -> None:
        self._hall, self._room = hall, Room(hall.blobs.root.parent, hall.clock)

    def expect_update(self, client: ClientName, key: Key) -> bool:
        """Return whether this very update already counts.  Raises Refused or BadMessage if it is unwanted."""
        lineage = self._hall.active(key.run)
        stage = lineage.run.stage
        if not isinstance(stage, InRound) or (stage.round, stage.attempt) != (key.round, key.attempt):
            raise WrongPhase(f"not in round {key.round}, attempt {key.attempt}", "an upload")
        if stage.phase.kind != "announced" and (client, key.digest) in stage.phase.updates:
            return True
        if not _awaits_update(stage.phase, client):
            raise WrongPhase(f"{stage.phase.kind} without {client}", "an upload")
        expected = lineage.update_bytes()
        if key.bytes != expected:
            raise BadMessage(f"an update of {key.bytes} bytes; in this round it has {expected}")
        return False

    def check_room(self, slot: Slot, missing: int) -> None:
        """Raise Unavailable if the disk would be nearly full, or the folder too large, with so much more."""
        most, used = self._hall.config.max_state_bytes, self._room.used(but=slot)
        if most and used + missing > most:
            raise Unavailable(
                f"the coordinator's folder holds {show_bytes(used)} of {show_bytes(most)} (max_state_bytes), "
                f"too much for {show_bytes(missing)} more",
                10.0,
            )
        free = shutil.disk_usage(self._hall.blobs.root).free
        if free - missing < self._hall.config.min_free_bytes:
            raise Unavailable(
                f"the coordinator's disk has {show_bytes(free)} left, too little for {show_bytes(missing)}",
                10.0,
            )
        self._room.promise(slot, missing)

    async def accept_update(self, client: ClientName, key: Key) -> None:
        """Open, check and count an update; return when that is durable."""
        lineage = self._hall.active(key.run)
        if self.expect_update(client, key):
            return
        spec = lineage.spec()
        update = self.spooled(lineage, key.round, key.attempt, client, key.digest)
        await self._hall.workers.sum(self._hall.sums.fold, key.run, key.round, key.attempt, spec, update)
        if isinstance(update, Masked):
            return  # it counts once the client has signed for it
        await lineage.driver.handle(Uploaded(client, key.round, key.attempt, key.digest, key.bytes))

    def spooled(
        self, lineage: Lineage, round_: int, attempt: int, client: ClientName, digest: Digest
    ) -> Sealed | Masked:
        """Return where an update lies and, if it is sealed, what it is bound to."""
        model = lineage.run.model
        if model is None:
            raise Refused(f"run {lineage.id} has no model yet")
        path = self._hall.spool.path(lineage.id, round_, attempt, client, digest)
        if lineage.plan.protection.mode == "secagg":
            return Masked(client, digest, path)
        context = seal_context(lineage.id, round_, client, model, lineage.spec())
        return Sealed(client, digest, path, context)

    def expect_model(self, client: ClientName, key: Key) -> None:
        """Raise Refused or BadMessage unless this is the model that the run starts from."""
        if key.bytes > self._hall.config.max_model_bytes:
            raise BadMessage(f"a model of {key.bytes} bytes; {self._hall.config.max_model_bytes} are allowed")
        if not key.run:  # an operator's file, for a run that is about to start
            return
        lineage = self._hall.active(key.run)
        stage = lineage.run.stage
        if not isinstance(stage, Initialising) or stage.source != client or stage.model != key.digest:
            raise WrongPhase("not waiting for this client's initial model", "an upload")
        if key.bytes != lineage.manifest.file_bytes:
            size = lineage.manifest.file_bytes
            raise BadMessage(f"a model of {key.bytes} bytes; by the run's manifest it has {size}")

    async def accept_model(self, client: ClientName, key: Key) -> None:
        """Check the model of a client against the run's manifest, and begin with it."""
        if not key.run:
            return
        lineage = self._hall.active(key.run)
        async with self._hall.hold(key.digest):
            length = await self._hall.workers.file(self._norm, key.digest, lineage.manifest)
            await lineage.driver.handle(ModelReceived(client, key.digest, length))

    async def discard_model(self, digest: Digest) -> None:
        """Delete a model that was refused, unless a run has the same file for its own."""
        async with self._hall.filing:
            owned = await self._hall.workers.database(self._hall.store.owned)
            if digest not in owned and digest not in self._hall.held:
                await self._hall.workers.file(self._hall.blobs.delete, digest)

    async def norm_of(self, digest: Digest) -> float:
        """Return the norm of an operator's model: all its floating tensors.  Raises BadUpdate, NotFound."""
        return await self._hall.workers.file(self._norm, digest, None)

    def received(self, key: Key, count: int) -> None:
        """Count bytes that arrived for a round."""
        self._hall.meters.moved("in", count)
        lineage = self._hall.runs.get(key.run)
        if lineage is not None:
            lineage.driver.count(key.round, received=count)

    def _norm(self, digest: Digest, manifest: Manifest | None) -> float:
        """Read a model once: its digest, its layout, its numbers (NaN is refused), its norm."""
        reader = self._hall.blobs.open(digest)
        try:
            check_model(reader, digest, manifest)
            return norm(manifest or layout_of(reader), reader.read)
        finally:
            reader.close()


def _awaits_update(phase: Phase, client: ClientName) -> bool:
    match phase:
        case Collecting(waiting=waiting):
            return client in waiting
        case Securing(waiting=waiting, leg="uploading"):
            return client in waiting
        case _:
            return False


def check_model(reader: Reader, expected: Digest, manifest: Manifest | None) -> None:
    """Raise BadUpdate unless the file is as the manifest says, Corrupt if it is damaged."""
    prefix = reader.read(0, min(reader.size, MAX_HEADER))
    if manifest is not None:
        check_header(prefix, manifest)
        if reader.size != manifest.file_bytes:
            raise BadUpdate(f"a model file of {reader.size} bytes; the manifest says {manifest.file_bytes}")
    found = reader.digest()
    if found != expected:
        raise Corrupt(f"the model {expected} is damaged on the coordinator's disk: its digest is now {found}")


def layout_of(reader: Reader) -> Manifest:
    """Return the manifest that the file itself implies: every floating tensor travels."""
    entries = parse_header(reader.read(0, min(reader.size, MAX_HEADER)), reader.size)
    return Manifest(entries)
