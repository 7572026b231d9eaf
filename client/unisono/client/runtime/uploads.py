"""Sending a finished file: the coordinator owns the offset, so an upload goes on wherever it stopped."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from unisono.base.errors import BadMessage, Unavailable, Unreachable
from unisono.base.ids import Digest
from unisono.client.session import Attempt

from .allowance import Outlet

CHUNK = 1 << 20
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent; `sha256` and `bytes` are those of the bytes as they travel."""

    purpose: Literal["update", "model"]
    attempt: Attempt
    sha256: Digest
    bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """How far the coordinator is: `complete` means whole, verified and durable there."""

    offset: int
    complete: bool


class Sink(Protocol):
    """What uploads need of the connection."""

    def begin(self, parcel: Parcel) -> Place:
        """Ask where to go on.  Raises our errors."""
        ...

    def upload(self, parcel: Parcel, chunks: Iterator[tuple[int, bytes | memoryview]]) -> Place:
        """Send chunks (offset, bytes).  Raises our errors."""
        ...


Reader = Callable[[int], Iterator[bytes]]  # the file's bytes from an offset on, at most CHUNK at a time


def send(sink: Sink, parcel: Parcel, reader: Reader, progress: Progress, outlet: Outlet) -> None:
    """Return when the coordinator has the file for good.  Raises our errors; the next try goes on."""
    outlet.check()
    place = sink.begin(parcel)
    while not place.complete:
        if not 0 <= place.offset <= parcel.bytes:
            raise BadMessage(f"the coordinator is at byte {place.offset} of {parcel.bytes}")
        progress(place.offset, parcel.bytes)
        try:
            after = sink.upload(parcel, _chunks(parcel, reader, place.offset, progress, outlet))
        except Unreachable:
            outlet.broke()
            raise
        outlet.arrived(after.offset - place.offset)
        if not after.complete:
            outlet.check()
        if not after.complete and after.offset <= place.offset:
            raise Unavailable(f"the upload stands still at byte {after.offset} of {parcel.bytes}", 1.0)
        place = after
    progress(parcel.bytes, parcel.bytes)


def _chunks(
    parcel: Parcel, reader: Reader, offset: int, progress: Progress, outlet: Outlet
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield at least one chunk: an empty one asks for the verdict on a file that is already there.

    It ends early when the site's hours do, or the stream has carried what it should; what has gone stays.
    """
    most = offset + outlet.stream()
    if offset == parcel.bytes:
        yield offset, b""
    for data in reader(offset):
        end = offset + len(data)
        for piece in outlet.passing(data):
            yield offset, piece
            offset += len(piece)
            progress(offset, parcel.bytes)
            if offset >= most:
                return
        if offset < end:
            return


def file_reader(path: Path) -> Reader:
    """Read a file as it is."""

    def read(offset: int) -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while data := file.read(CHUNK):
                yield data

    return read
