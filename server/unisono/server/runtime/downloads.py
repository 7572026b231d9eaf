"""Sends models.  Segments are opened once for all clients that download at the same time."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest
from unisono.base.pacing import Pieces
from unisono.crypto import SEGMENT
from unisono.server.blobs import LocalDir, Reader
from unisono.telemetry.meters import Meters

from .workers import Workers

KEPT = 8  # opened segments: 8 MiB, two for each transfer that moves; whatever the number of clients


class Downloads:
    """Reads blobs segment by segment, one ahead of what is being sent."""

    def __init__(self, blobs: LocalDir, workers: Workers, meters: Meters | None = None) -> None:
        self._blobs, self._workers, self._meters = blobs, workers, meters or Meters()
        self._segments: OrderedDict[tuple[Digest, int], asyncio.Future[bytes]] = OrderedDict()
        self._readers = Counter[Digest]()

    def resumed(self) -> None:
        """Count a download that goes on where an earlier one stopped."""
        self._meters.resumed("out")

    async def read(
        self, digest: Digest, offset: int, length: int, sizes: Pieces, turn: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield (offset, data) from `offset` on: `length` bytes at most, or to the end if that is 0.

        Awaits `turn` before each piece, and holds nothing of the model while it does: readers that wait in
        line, each at another place, would hold the whole model twice.  Raises NotFound, BadMessage, Corrupt.
        """
        with self._reading(digest):
            reader = await self._workers.open(lambda: self._blobs.open(digest), Reader.close)
            opening: set[asyncio.Future[bytes]] = set()  # what this reader reads, perhaps for others too
            try:
                if not 0 <= offset <= reader.size:
                    raise BadMessage(f"offset {offset} in a model of {reader.size} bytes")
                end = min(reader.size, offset + length) if length else reader.size
                while offset < end:
                    await turn()
                    index, start = divmod(offset, SEGMENT)
                    stop = min(start + sizes.size, SEGMENT, end - index * SEGMENT)
                    more = (index + 1) * SEGMENT < end
                    yield offset, (await self._open(digest, reader, index, more, opening))[start:stop]
                    offset += stop - start
            finally:
                _close(reader, opening)

    @contextmanager
    def _reading(self, digest: Digest) -> Iterator[None]:
        """Keep a model's segments while somebody reads it, or is about to: the next round has another."""
        self._readers[digest] += 1
        try:
            yield
        finally:
            self._readers[digest] -= 1
            if not self._readers[digest]:
                del self._readers[digest]
                for key in [key for key in self._segments if key[0] == digest]:
                    del self._segments[key]

    async def _open(
        self, digest: Digest, reader: Reader, index: int, more: bool, opening: set[asyncio.Future[bytes]]
    ) -> bytes:
        """Return a segment; begin with the next one, if there are more."""
        segment = self._segment(digest, reader, index, opening)
        if more:
            self._segment(digest, reader, index + 1, opening)
        return await asyncio.shield(segment)

    def _segment(
        self, digest: Digest, reader: Reader, index: int, opening: set[asyncio.Future[bytes]]
    ) -> asyncio.Future[bytes]:
        key = (digest, index)
        found = self._segments.get(key)
        if found is None or (found.done() and (found.cancelled() or found.exception() is not None)):
            found = asyncio.ensure_future(self._workers.file(reader.segment, index))
            found.add_done_callback(_seen)
            opening.add(found)
            found.add_done_callback(opening.discard)
            self._segments[key] = found
            while len(self._segments) > KEPT:
                self._segments.popitem(last=False)
        self._segments.move_to_end(key)
        return found


def _close(reader: Reader, opening: set[asyncio.Future[bytes]]) -> None:
    """Close a file when nothing is read from it any more: others may wait for what is being read."""

    def closed(_: object = None) -> None:
        if not opening:
            reader.close()

    closed()
    for segment in tuple(opening):
        segment.add_done_callback(closed)


def _seen(segment: asyncio.Future[bytes]) -> None:
    """Take note of a failure that nobody may wait for any more."""
    if not segment.cancelled():
        segment.exception()
