"""Model files to and from the coordinator: 1 MiB chunks, resumed where they stopped, digests verified.

The server owns an upload's offset (`Begin` asks for it); a download's offset is what lies in the part file.
A broken connection is tried again as long as tries bring something; `_IDLE_TRIES` without a new byte end it.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from unisono.base.errors import BadConfiguration, Corrupt, PeerFault, Unavailable
from unisono.base.ids import Digest
from unisono.base.pacing import BUFFERED, FIRST_PIECE, Pieces
from unisono.crypto.digest import Sha256
from unisono.tensors import Entry, Manifest, Reader, plain

from .progress import Moved

CHUNK = 1 << 20
_IDLE_TRIES = 5

Sleep = Callable[[float], None]


class Transfers(Protocol):
    """What is asked of the connection; each raises Unavailable when trying again may help."""

    def begin(self, sha256: Digest, size: int) -> tuple[int, bool]: ...
    def upload(self, sha256: Digest, size: int, offset: int, chunks: Iterator[bytes]) -> tuple[int, bool]: ...
    def download(self, sha256: Digest, offset: int) -> Iterator[tuple[int, bytes]]: ...


@dataclass(frozen=True, slots=True)
class PlainModel:
    """A safetensors file of the operator as it travels: metadata dropped, tensors in file order.

    A model's digest is that of its plain file, whoever wrote the file that it came from.
    """

    file: Path
    entries: tuple[Entry, ...]
    size: int

    @classmethod
    def of(cls, file: Path) -> Self:
        """Read the header.  Raises BadConfiguration."""
        try:
            with file.open("rb") as opened:
                entries, _ = plain(_reader(opened), file.stat().st_size)
        except OSError as error:
            raise BadConfiguration(
                f"{file}: {error.strerror}\n  [model] init of the plan names it"
            ) from error
        except PeerFault as error:
            raise BadConfiguration(f"{file}: not a model that can be used: {error}") from error
        manifest = Manifest(entries)
        return cls(file, entries, manifest.file_bytes)

    @property
    def travelling(self) -> int:
        """The coordinates that clients will send deltas of."""
        return Manifest(self.entries).length

    def slices(self, offset: int = 0) -> Iterator[bytes]:
        """Yield the plain bytes from `offset` on, at most 1 MiB at a time."""
        with self.file.open("rb") as opened:
            _, slices = plain(_reader(opened), self.file.stat().st_size)
            for data in slices:
                if offset < len(data):
                    yield data[offset:]
                offset = max(0, offset - len(data))

    def digest(self) -> Digest:
        """Return the SHA-256 of the plain bytes."""
        sha256 = Sha256()
        for data in self.slices():
            sha256.update(data)
        return sha256.hexdigest()


def _reader(opened: BinaryIO) -> Reader:
    def read(offset: int, length: int) -> bytes:
        opened.seek(offset)
        return opened.read(length)

    return read


def send(connection: Transfers, model: PlainModel, moved: Moved, sleep: Sleep = time.sleep) -> Digest:
    """Upload a model and return its digest once the coordinator has it durably."""
    size, sha256 = model.size, model.digest()
    patience = _Patience(sleep)
    while True:
        try:
            offset, complete = connection.begin(sha256, size)
            patience.at(offset)
            if not complete:
                chunks = _told(model.slices(offset), offset, moved)
                offset, complete = connection.upload(sha256, size, offset, chunks)
        except Unavailable as error:
            patience.fail(error)
            continue
        if complete:
            return sha256
        patience.fail(
            Unavailable(f"the coordinator has {offset} of {size} bytes and stopped", retry_after=1.0)
        )


def receive(
    connection: Transfers, sha256: Digest, target: Path, moved: Moved, sleep: Sleep = time.sleep
) -> None:
    """Download a model to `target`, which appears whole and verified or not at all.  Raises Corrupt."""
    part = target.with_name(f".{target.name}.{sha256[:16]}.part")
    patience = _Patience(sleep)
    with part.open("a+b") as opened:
        seen = _resume(part)
        while True:
            try:
                for _, data in connection.download(sha256, opened.tell()):
                    opened.write(data)
                    seen.update(data)
                    patience.at(opened.tell())
                    moved(opened.tell())
                break
            except Unavailable as error:
                patience.fail(error)
        opened.flush()
        os.fsync(opened.fileno())
    if seen.hexdigest() != sha256:
        part.unlink()
        raise Corrupt(
            f"{target}: the bytes received have digest {seen.hexdigest()}, not {sha256}\n  pull again"
        )
    _publish(part, target)


class _Patience:
    """Counts tries that brought nothing; waits a little longer after each."""

    def __init__(self, sleep: Sleep) -> None:
        self._sleep, self._best, self._tries = sleep, -1, 0

    def at(self, offset: int) -> None:
        if offset > self._best:
            self._best, self._tries = offset, 0

    def fail(self, error: Unavailable) -> None:
        """Wait before the next try, or raise `error` when enough tries brought nothing."""
        self._tries += 1
        if self._tries > _IDLE_TRIES:
            raise error
        self._sleep(min(max(error.retry_after, 0.2 * 2**self._tries), 10.0))


def _told(slices: Iterator[bytes], offset: int, moved: Moved) -> Iterator[bytes]:
    """Yield what is sent in pieces that the link takes in a second or two, and tell of each."""
    pieces = Pieces(size=2 * FIRST_PIECE, blind=BUFFERED)
    for data in slices:
        for piece in pieces.cut(data):
            began = time.monotonic()
            yield piece
            pieces.took(time.monotonic() - began, len(piece))
            offset += len(piece)
            moved(offset)


def _resume(part: Path) -> Sha256:
    """Return the running digest of what an earlier pull left behind."""
    seen = Sha256()
    with part.open("rb") as opened:
        while data := opened.read(CHUNK):
            seen.update(data)
    return seen


def _publish(part: Path, target: Path) -> None:
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
