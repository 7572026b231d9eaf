"""Files under this site's own key: read anywhere, written as a stream, never whole in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from unisono.base.errors import Corrupt
from unisono.base.ids import Digest
from unisono.crypto import HEADER, SEGMENT, TAG, AtRest, Readable, Sealer, Sha256, plain_length
from unisono.crypto.buffers import flat
from unisono.tensors import Bytes

from .context import cached


class SealedFile:
    """Reads any stretch of a file at rest; the last segment opened stays, so a pass opens each one once.

    A model's file is bound to its digest (`of_model`), so what opens is that model: nothing is hashed.
    """

    def __init__(self, path: Path, at_rest: AtRest, context: bytes) -> None:
        self._file = path.open("rb", buffering=0)
        self.length = plain_length(os.fstat(self._file.fileno()).st_size - HEADER)
        self._opener = at_rest.opener(self._file.read(HEADER), context)
        self._index = -1
        self._sealed, self._plain = bytearray(SEGMENT + TAG), bytearray(SEGMENT)

    @classmethod
    def of_model(cls, path: Path, at_rest: AtRest, model: Digest) -> Self:
        """Open a model of the cache."""
        return cls(path, at_rest, cached(model))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, offset: int, length: int) -> Bytes:
        """Return `length` bytes, fewer at the end of the file; valid until the next read.  Raises Corrupt."""
        end = min(offset + length, self.length)
        if offset < end and offset // SEGMENT == (end - 1) // SEGMENT:
            self._open(offset // SEGMENT)
            begin = offset % SEGMENT
            return memoryview(self._plain)[begin : begin + end - offset]  # the usual case: no copy
        parts = []
        while offset < end:
            self._open(offset // SEGMENT)
            begin = offset % SEGMENT
            stop = min(SEGMENT, begin + end - offset)
            parts.append(bytes(memoryview(self._plain)[begin:stop]))
            offset += stop - begin
        return b"".join(parts)

    def _open(self, index: int) -> None:
        if index == self._index:
            return
        plain = min(SEGMENT, self.length - index * SEGMENT)
        sealed = memoryview(self._sealed)[: plain + TAG]
        self._file.seek(HEADER + index * (SEGMENT + TAG))
        if self._file.readinto(sealed) != len(sealed):
            raise Corrupt(f"the file ends inside segment {index}")
        last = (index + 1) * SEGMENT >= self.length
        self._opener.open_into(index, sealed, self._plain, last=last)
        self._index = index


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes | memoryview, /) -> object: ...


class Hashed:
    """A file that is written from its first byte to its last, with the digest and size of what is in it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256, self.bytes = file, Sha256(), 0

    def write(self, data: Readable) -> None:
        self._sha256.update(data)
        self.bytes += self._file.write(flat(data))

    @property
    def sha256(self) -> Digest:
        return self._sha256.hexdigest()


class SealedWriter:
    """Seals a stream of any pieces into segments."""

    def __init__(self, file: "Sink", header: bytes, sealer: Sealer) -> None:
        self._file, self._sealer = file, sealer
        self._plain, self._filled = bytearray(SEGMENT), 0
        self._sealed = bytearray(SEGMENT + TAG)
        file.write(header)

    def write(self, data: Readable) -> None:
        source = flat(data)
        while source:
            if self._filled == SEGMENT:  # only now is it known not to be the last
                self._seal(last=False)
            taken = source[: SEGMENT - self._filled]
            self._plain[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            source = source[len(taken) :]

    def finish(self) -> None:
        """Seal the last segment."""
        self._seal(last=True)

    def _seal(self, *, last: bool) -> None:
        view = memoryview(self._plain)[: self._filled]
        length = self._sealer.seal_into(view, self._sealed, last=last)
        self._filled = 0
        self._file.write(memoryview(self._sealed)[:length])


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Write a file of mode 0600 that is at `path` whole or not at all, whenever this process is killed.

    It is not synced: nobody was told of it yet, and what a power failure tears is made again (the vault
    checks every finished update when it is opened, the coordinator every model).
    """
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        yield file
    part.replace(path)
