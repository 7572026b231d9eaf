"""Receives updates and models.  The coordinator owns every offset: a client asks where to go on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from unisono.base.errors import BadMessage, BadUpdate, Corrupt, Error, PeerFault, Refused, Unavailable
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.blobs import Blob, LocalDir, Part, Spool
from unisono.telemetry.meters import Meters

from .presence import Presence
from .workers import Workers

MAX_CHUNK = 1 << 20
SMALL, MOST_SMALL = 1 << 10, 64  # chunks below so many bytes, and how many of one stream: each costs a write
LARGE, FEW = 8 << 20, 16  # bytes of an upload, and clients: see `ends_connection`
SIGN = 5.0  # seconds between two signs that a client waits for us
log = structlog.get_logger("unisono.uploads")


@dataclass(frozen=True, slots=True)
class Key:
    """What is being uploaded, as the client declares it."""

    purpose: Literal["update", "model"]
    run: RunId
    round: int
    attempt: int
    digest: Digest
    bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of it is here; `complete` = whole, checked and durable."""

    offset: int
    complete: bool


class Desk(Protocol):
    """Decides what may be uploaded and what becomes of it."""

    def expect_update(self, client: ClientName, key: Key) -> bool:
        """Return whether this update is acknowledged already.  Raises Refused, BadMessage if unwanted."""
        ...

    async def accept_update(self, client: ClientName, key: Key) -> None:
        """Check, count and acknowledge an update whose bytes are durable in the spool."""
        ...

    def check_room(self, slot: "Slot", missing: int) -> None:
        """Raise Unavailable if the disk would be nearly full with so many bytes more of one upload."""
        ...

    def expect_model(self, client: ClientName, key: Key) -> None:
        """Raise if this model is unwanted."""
        ...

    async def accept_model(self, client: ClientName, key: Key) -> None:
        """Check a model that is durable in the blob store, and start from it."""
        ...

    async def discard_model(self, digest: Digest) -> None:
        """Delete a model that `accept_model` refused, if nobody else needs the same file."""
        ...

    def received(self, key: Key, count: int) -> None:
        """Count bytes that arrived."""
        ...


Slot = tuple[ClientName, bool]  # who uploads; operators have names of their own (their models have no run)


@dataclass(slots=True)
class _Model:
    """A model that arrives: encrypted as it comes, so it has no file to go on with after a restart."""

    digest: Digest
    blob: Blob
    writing: asyncio.Future[None] | None = None  # by a stream that a newer one took over from


class Uploads:
    """All uploads in flight: at most one a client; a newer stream takes over from an older one."""

    def __init__(
        self,
        desk: Desk,
        spool: Spool,
        blobs: LocalDir,
        presence: Presence,
        workers: Workers,
        meters: Meters | None = None,
    ) -> None:
        self._desk, self._spool, self._blobs = desk, spool, blobs
        self._presence, self._workers, self._meters = presence, workers, meters or Meters()
        self._streams: dict[Slot, object] = {}
        self._models: dict[Slot, _Model] = {}
        self._writing: dict[Slot, asyncio.Future[None]] = {}  # the last chunk of an update, in its thread

    def waits(self, client: ClientName) -> None:
        """Note that a client stands in line for its transfer."""
        self._presence.waits(client)

    def ends_connection(self, key: Key) -> bool:
        """Tell whether an upload's connection should end with it.

        gRPC makes a connection's read buffer as large as what it once read without a pause, and keeps it
        while nothing comes: 1.6 MB after an upload of 25 MB.  For a few clients that costs less than a
        handshake each (8 ms of processor time, both sides).
        """
        return key.bytes >= LARGE and len(self._presence.online()) > FEW

    def needs_no_begin(self, key: Key) -> bool:
        """Tell whether a client may send its next chunk unasked.

        Who asks waits for its turn with nothing in our buffers; of a few clients one chunk each is little.
        """
        return bool(key.run) and len(self._presence.online()) <= FEW

    @contextmanager
    def _busy(self, client: ClientName, key: Key) -> Iterator[None]:
        """Let what takes long here (a sync, a hash, a sum) be no silence of the client's."""
        timer: asyncio.TimerHandle | None = None

        def sign() -> None:
            nonlocal timer
            self._presence.waits(client)
            timer = asyncio.get_running_loop().call_later(SIGN, sign)

        if key.run:  # an operator of that name is somebody else
            sign()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
                self._presence.waits(client)

    async def begin(self, client: ClientName, key: Key) -> Progress:
        """Say where to go on.  Raises Unavailable before a byte is sent that would fill the disk."""
        if key.purpose == "model":
            return await self._begin_model(client, key)
        if self._desk.expect_update(client, key):
            return Progress(key.bytes, True)
        part = await self._workers.file(self._open, client, key)
        if part.offset < key.bytes:
            self._desk.check_room(_slot(client, key), key.bytes - part.offset)
            return Progress(part.offset, False)
        await self._finish(client, key, part)
        return Progress(key.bytes, True)

    async def _begin_model(self, client: ClientName, key: Key) -> Progress:
        self._expect_model(client, key)
        if await self._workers.file(self._blobs.exists, key.digest):
            await self._desk.accept_model(client, key)
            return Progress(key.bytes, True)
        found = self._models.get(_slot(client, key))
        offset = found.blob.offset if found is not None and found.digest == key.digest else 0
        self._desk.check_room(_slot(client, key), key.bytes - offset)
        return Progress(offset, False)

    async def receive(
        self,
        client: ClientName,
        key: Key,
        chunks: AsyncIterator[tuple[int, bytes | memoryview]],
        recheck: Callable[[], None],
    ) -> Progress:
        """Take the chunks of one stream.  Raises what refuses them; what arrived before stays.

        Views of a message are released once written: whoever waits for the next chunk still names the last.
        """
        slot = _slot(client, key)
        mine = self._streams[slot] = object()
        own = self._mine(slot, mine, chunks, recheck)
        try:
            if key.purpose == "model":
                return await self._receive_model(client, key, own)
            if self._desk.expect_update(client, key):
                return Progress(key.bytes, True)
            await self._quiet(slot, mine)
            part = await self._workers.file(self._open, client, key)
            if part.offset < key.bytes:  # who sends need not have asked
                self._desk.check_room(slot, key.bytes - part.offset)
            if part.offset:
                self._meters.resumed("in")
            await self._append(client, key, part, own)
            if part.offset < key.bytes:
                return Progress(part.offset, False)
            await self._finish(client, key, part)
            return Progress(key.bytes, True)
        finally:
            if self._streams.get(slot) is mine:
                del self._streams[slot]

    async def _quiet(self, slot: Slot, mine: object) -> None:
        """Wait until an older stream's last chunk is written, which may mean to hash all that is there.

        Whoever opens and cancels streams without end then keeps one thread busy, not those of all.
        """
        last = self._writing.get(slot)
        if last is not None and not last.done():
            await asyncio.wait((last,))
            if self._streams.get(slot) is not mine:
                raise Unavailable(f"a newer upload of {slot[0]} took over", 0.2)

    async def _mine(
        self,
        slot: Slot,
        mine: object,
        chunks: AsyncIterator[tuple[int, bytes | memoryview]],
        recheck: Callable[[], None],
    ) -> AsyncIterator[tuple[int, bytes | memoryview]]:
        small = 0
        async for offset, data in chunks:
            recheck()
            if self._streams.get(slot) is not mine:
                raise Unavailable(f"a newer upload of {slot[0]} took over", 0.2)
            if not 0 < len(data) <= MAX_CHUNK:
                raise BadMessage(f"a chunk of {len(data)} bytes; 1 to {MAX_CHUNK} are allowed")
            small += len(data) < SMALL
            if small > MOST_SMALL:
                raise BadMessage(f"more than {MOST_SMALL} chunks of less than {SMALL} bytes in one upload")
            yield offset, data

    async def _append(
        self, client: ClientName, key: Key, part: Part, chunks: AsyncIterator[tuple[int, bytes | memoryview]]
    ) -> None:
        """Write each chunk while the next one arrives."""
        writing: asyncio.Future[None] | None = None
        begin = end = part.offset
        try:
            async for offset, data in chunks:
                length = len(data)
                _check_place(offset, end, length, key.bytes, end == begin)
                if writing is not None:
                    with self._busy(client, key):
                        await asyncio.shield(writing)
                writing = asyncio.ensure_future(self._workers.file(_write_and_release, part.append, data))
                self._writing[_slot(client, key)] = writing
                end += length
                self._presence.moved(client, "uploading", end, key.bytes)
                self._desk.received(key, length)
        finally:
            if writing is not None:
                with self._busy(client, key):
                    await asyncio.shield(writing)

    async def _finish(self, client: ClientName, key: Key, part: Part) -> None:
        with self._busy(client, key):
            await self._count(client, key, part)

    async def _count(self, client: ClientName, key: Key, part: Part) -> None:
        await self._workers.file(self._settle, part)
        try:
            await self._desk.accept_update(client, key)
            self._meters.update("accepted")
        except (Corrupt, BadUpdate) as error:
            self._meters.update("refused", error.code)
            log.warning("update_refused", run=key.run, round=key.round, client=client, error=str(error))
            await self._workers.file(self._spool.discard, key.run, key.round, key.attempt, client, key.digest)
            raise
        self._presence.settled(client)

    def _open(self, client: ClientName, key: Key) -> Part:
        return self._spool.part(key.run, key.round, key.attempt, client, key.digest, key.bytes)

    def _settle(self, part: Part) -> None:
        with self._meters.syncing():
            part.finish()

    def _expect_model(self, client: ClientName, key: Key) -> None:
        try:
            self._desk.expect_model(client, key)
        except Error:
            self._give_up(_slot(client, key))  # its time is over: nobody will finish it
            raise

    async def _receive_model(
        self, client: ClientName, key: Key, chunks: AsyncIterator[tuple[int, bytes | memoryview]]
    ) -> Progress:
        """Encrypt a model as it arrives; over a restart of the coordinator it begins again."""
        self._expect_model(client, key)
        slot = _slot(client, key)
        found = await self._arriving(slot, key)
        begin = found.blob.offset
        if begin < key.bytes:
            self._desk.check_room(slot, key.bytes - begin)
        async for offset, data in chunks:
            length = len(data)
            _check_place(offset, found.blob.offset, length, key.bytes, found.blob.offset == begin)
            await self._write(slot, found, data)
            if key.run:
                self._presence.moved(client, "uploading", found.blob.offset, key.bytes)
            self._desk.received(key, length)
        if found.blob.offset < key.bytes:
            return Progress(found.blob.offset, False)
        if self._models.pop(slot, None) is not found:
            raise Unavailable(f"a newer upload of {client} took over", 0.2)
        with self._busy(client, key):
            # Begun, it is ended, whoever hangs up: nobody else would give the file up.
            await asyncio.shield(asyncio.ensure_future(self._workers.file(found.blob.commit, key.digest)))
            try:
                await self._desk.accept_model(client, key)
            except (PeerFault, Refused):  # or the run ended meanwhile: nobody will ask for the file
                await self._desk.discard_model(key.digest)
                raise
        return Progress(key.bytes, True)

    async def _arriving(self, slot: Slot, key: Key) -> _Model:
        """Return the model that is arriving in a slot, once nobody else writes to it; or begin it."""
        found = self._models.get(slot)
        if found is not None and found.writing is not None:
            await asyncio.wait((found.writing,))
            found = self._models.get(slot)
        if found is None or found.digest != key.digest:
            self._give_up(slot)
            found = _Model(key.digest, await self._workers.open(self._blobs.writer, Blob.abort))
            if slot in self._models:  # in the meantime
                found.blob.abort()
                raise Unavailable(f"a newer upload of {slot[0]} took over", 0.2)
            self._models[slot] = found
        return found

    async def _write(self, slot: Slot, found: _Model, data: bytes | memoryview) -> None:
        found.writing = asyncio.ensure_future(self._workers.file(_write_and_release, found.blob.write, data))
        try:
            await asyncio.shield(found.writing)
        except Error:  # the blob has given itself up; the next stream begins a new one
            if self._models.get(slot) is found:
                del self._models[slot]
            raise

    def _give_up(self, slot: Slot) -> None:
        found = self._models.pop(slot, None)
        if found is None:
            return
        if found.writing is not None and not found.writing.done():
            found.writing.add_done_callback(lambda _: found.blob.abort())
        else:
            found.blob.abort()


def _slot(client: ClientName, key: Key) -> Slot:
    return client, bool(key.run)


def _write_and_release(write: Callable[[bytes | memoryview], object], data: bytes | memoryview) -> None:
    try:
        write(data)
    finally:
        if isinstance(data, memoryview):
            data.release()


def _check_place(offset: int, end: int, length: int, total: int, first: bool) -> None:
    if offset != end and first:  # what a broken stream still had on its way came in after `begin`
        raise Unavailable(f"the upload stands at byte {end} now, not {offset}: ask where to go on", 0.1)
    if offset != end:
        raise BadMessage(f"a chunk at byte {offset}; the next one expected begins at {end}")
    if end + length > total:
        raise BadMessage(f"bytes {end} to {end + length} of an upload of {total} bytes")
