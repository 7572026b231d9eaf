"""Sends models.  Segments are opened once for all clients that download at the same time."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest
from unisono.crypto import SEGMENT
from unisono.server.blobs import LocalDir, Reader
from unisono.telemetry.meters import Meters

from .workers import Workers

KEPT = 16  # opened segments: 16 MiB, whatever the number of clients


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
        self, digest: Digest, offset: int, length: int = 0
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield (offset, data) from `offset` on: `length` bytes at most, or to the end if that is 0.

        Raises NotFound, BadMessage, Corrupt.
        """
        reader = await self._workers.open(lambda: self._blobs.open(digest), Reader.close)
        index = offset // SEGMENT
        ahead: asyncio.Future[bytes] | None = None
        self._readers[digest] += 1
        try:
            if not 0 <= offset <= reader.size:
                raise BadMessage(f"offset {offset} in a model of {reader.size} bytes")
            end = min(reader.size, offset + length) if length else reader.size
            if offset < end:
                ahead = self._segment(digest, reader, index)
            while ahead is not None:
                data = await asyncio.shield(ahead)
                more = (index + 1) * SEGMENT < end
                ahead = self._segment(digest, reader, index + 1) if more else None
                start = index * SEGMENT
                skip, stop = max(0, offset - start), min(len(data), end - start)
                yield start + skip, data[skip:stop] if skip or stop < len(data) else data
                index += 1
        finally:
            self._left(digest)
            if ahead is None or ahead.done():
                reader.close()
            else:  # others may wait for what this reader is reading
                ahead.add_done_callback(lambda _: reader.close())

    def _left(self, digest: Digest) -> None:
        """Forget a model's segments when nobody reads it any more: the next round has another model."""
        self._readers[digest] -= 1
        if not self._readers[digest]:
            del self._readers[digest]
            for key in [key for key in self._segments if key[0] == digest]:
                del self._segments[key]

    def _segment(self, digest: Digest, reader: Reader, index: int) -> asyncio.Future[bytes]:
        key = (digest, index)
        found = self._segments.get(key)
        if found is None or (found.done() and (found.cancelled() or found.exception() is not None)):
            found = asyncio.ensure_future(self._workers.file(reader.segment, index))
            found.add_done_callback(_seen)
            self._segments[key] = found
            while len(self._segments) > KEPT:
                self._segments.popitem(last=False)
        self._segments.move_to_end(key)
        return found


def _seen(segment: asyncio.Future[bytes]) -> None:
    """Take note of a failure that nobody may wait for any more."""
    if not segment.cancelled():
        segment.exception()
