"""Receives updates and models.  The coordinator owns every offset: a client asks where to go on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from unisono.base.errors import BadMessage, BadUpdate, Corrupt, PeerFault, Unavailable
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.blobs import Blob, LocalDir, Part, Spool

from .presence import Presence
from .workers import Workers

MAX_CHUNK = 1 << 20
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

    def check_room(self, key: Key) -> None:
        """Raise Unavailable if the disk would be nearly full with this upload on it."""
        ...

    def expect_model(self, client: ClientName, key: Key) -> None:
        """Raise if this model is unwanted."""
        ...

    async def accept_model(self, client: ClientName, key: Key) -> None:
        """Check a model that is durable in the blob store, and start from it."""
        ...

    def received(self, key: Key, count: int) -> None:
        """Count bytes that arrived."""
        ...


class Uploads:
    """All uploads in flight: at most one a client; a newer stream takes over from an older one."""

    def __init__(
        self, desk: Desk, spool: Spool, blobs: LocalDir, presence: Presence, workers: Workers
    ) -> None:
        self._desk, self._spool, self._blobs = desk, spool, blobs
        self._presence, self._workers = presence, workers
        self._streams: dict[ClientName, object] = {}
        self._models: dict[ClientName, tuple[Digest, Blob]] = {}

    async def begin(self, client: ClientName, key: Key) -> Progress:
        """Say where to go on.  Raises Unavailable before a byte is sent that would fill the disk."""
        self._desk.check_room(key)
        if key.purpose == "model":
            self._desk.expect_model(client, key)
            if await self._workers.file(self._blobs.exists, key.digest):
                await self._desk.accept_model(client, key)
                return Progress(key.bytes, True)
            digest, blob = self._models.get(client, (None, None))
            return Progress(blob.offset if blob is not None and digest == key.digest else 0, False)
        if self._desk.expect_update(client, key):
            return Progress(key.bytes, True)
        part = await self._workers.file(self._open, client, key)
        if part.offset < key.bytes:
            return Progress(part.offset, False)
        await self._finish(client, key, part)
        return Progress(key.bytes, True)

    async def receive(
        self,
        client: ClientName,
        key: Key,
        chunks: AsyncIterator[tuple[int, bytes]],
        recheck: Callable[[], None],
    ) -> Progress:
        """Take the chunks of one stream.  Raises what refuses them; what arrived before stays."""
        mine = self._streams[client] = object()
        try:
            if key.purpose == "model":
                return await self._receive_model(client, key, self._mine(client, mine, chunks, recheck))
            if self._desk.expect_update(client, key):
                return Progress(key.bytes, True)
            part = await self._workers.file(self._open, client, key)
            await self._append(client, key, part, self._mine(client, mine, chunks, recheck))
            if part.offset < key.bytes:
                return Progress(part.offset, False)
            await self._finish(client, key, part)
            return Progress(key.bytes, True)
        finally:
            if self._streams.get(client) is mine:
                del self._streams[client]

    def forget(self, client: ClientName) -> None:
        """Drop what a client that is gone for good had begun."""
        _, blob = self._models.pop(client, (None, None))
        if blob is not None:
            blob.abort()

    async def _mine(
        self,
        client: ClientName,
        mine: object,
        chunks: AsyncIterator[tuple[int, bytes]],
        recheck: Callable[[], None],
    ) -> AsyncIterator[tuple[int, bytes]]:
        async for offset, data in chunks:
            recheck()
            if self._streams.get(client) is not mine:
                raise Unavailable(f"a newer upload of {client} took over", 0.2)
            if not 0 < len(data) <= MAX_CHUNK:
                raise BadMessage(f"a chunk of {len(data)} bytes; 1 to {MAX_CHUNK} are allowed")
            yield offset, data

    async def _append(
        self, client: ClientName, key: Key, part: Part, chunks: AsyncIterator[tuple[int, bytes]]
    ) -> None:
        """Write each chunk while the next one arrives."""
        writing: asyncio.Future[None] | None = None
        end = part.offset
        try:
            async for offset, data in chunks:
                _check_place(offset, end, len(data), key.bytes)
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(self._workers.file(part.append, data))
                end += len(data)
                self._presence.moved(client, "uploading", end, key.bytes)
                self._desk.received(key, len(data))
        finally:
            if writing is not None:
                await writing

    async def _finish(self, client: ClientName, key: Key, part: Part) -> None:
        await self._workers.file(part.finish)
        try:
            await self._desk.accept_update(client, key)
        except (Corrupt, BadUpdate) as error:
            log.warning("update_refused", run=key.run, round=key.round, client=client, error=str(error))
            await self._workers.file(self._spool.discard, key.run, key.round, key.attempt, client, key.digest)
            raise
        self._presence.settled(client)

    def _open(self, client: ClientName, key: Key) -> Part:
        return self._spool.part(key.run, key.round, key.attempt, client, key.digest, key.bytes)

    async def _receive_model(
        self, client: ClientName, key: Key, chunks: AsyncIterator[tuple[int, bytes]]
    ) -> Progress:
        """Encrypt a model as it arrives; over a restart of the coordinator it begins again."""
        self._desk.expect_model(client, key)
        digest, blob = self._models.get(client, (None, None))
        if blob is None or digest != key.digest:
            self.forget(client)
            blob = await self._workers.file(self._blobs.writer)
            self._models[client] = (key.digest, blob)
        async for offset, data in chunks:
            _check_place(offset, blob.offset, len(data), key.bytes)
            await self._workers.file(blob.write, data)
            self._presence.moved(client, "uploading", blob.offset, key.bytes)
            self._desk.received(key, len(data))
        if blob.offset < key.bytes:
            return Progress(blob.offset, False)
        del self._models[client]
        found = await self._workers.file(blob.commit)
        if found != key.digest:
            await self._workers.file(self._blobs.delete, found)
            raise Corrupt(f"the model's SHA-256 is {found}, not {key.digest} as announced")
        try:
            await self._desk.accept_model(client, key)
        except PeerFault:
            await self._workers.file(self._blobs.delete, found)
            raise
        return Progress(key.bytes, True)


def _check_place(offset: int, end: int, length: int, total: int) -> None:
    if offset != end:
        raise BadMessage(f"a chunk at byte {offset}; the next one expected begins at {end}")
    if end + length > total:
        raise BadMessage(f"bytes {end} to {end + length} of an upload of {total} bytes")
