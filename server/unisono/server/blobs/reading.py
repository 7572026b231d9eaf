"""Random access to one encrypted file, in memory of one segment."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from unisono.base.errors import BadMessage, Corrupt, NotFound
from unisono.base.ids import Digest
from unisono.crypto import HEADER, SEGMENT, TAG, AtRest, Sha256, plain_length

from .disk import disk, read_at

CONTEXT = b"blob"  # the digest cannot be bound: it is known only when the file has been written


def stamp(file: int) -> tuple[int, ...]:
    """Return inode, size and time of the last change of an open file."""
    found = os.fstat(file)
    return found.st_ino, found.st_size, found.st_mtime_ns


class Reader:
    """Reads plain bytes.  May be used from several threads at once.

    Segments authenticate themselves and their places, not which file they are of: who must be sure that
    the bytes are those it asked for compares `digest()`, or hashes what it gets as receivers of a model do.
    """

    def __init__(self, path: Path, at_rest: AtRest) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"there is no file with digest {path.name}") from None
        try:
            with disk(path):
                sealed = os.fstat(self._file).st_size - HEADER
                self._opener = at_rest.opener(os.pread(self._file, HEADER, 0), CONTEXT)
            self.size = plain_length(sealed)  # of the plain file
        except BaseException as error:
            self.close()
            if isinstance(error, Corrupt):
                raise Corrupt(f"{path}: {error}") from None
            raise
        self.segments = max(1, -(-self.size // SEGMENT))
        self._recent: tuple[int, bytes] | None = None  # replaced whole, so threads see one or the other

    @property
    def stamp(self) -> tuple[int, ...]:
        """Return what tells this file, as it is now, from any other."""
        return stamp(self._file)

    def check(self, expected: Digest) -> None:
        """Raise Corrupt unless these are the bytes of that digest."""
        found = self.digest()
        if found != expected:
            raise Corrupt(
                f"{self._path} holds another file, of digest {found[:12]}...; restore it from a backup"
            )

    def close(self) -> None:
        """Release the file; reading fails from now on."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def segment(self, index: int) -> bytes:
        """Return segment `index` of `segments`: SEGMENT bytes, the last one fewer.  Raises Corrupt."""
        sealed = memoryview(bytearray(self._sealed(index)))
        self._fetch(index, sealed)
        try:
            return self._opener.open(index, sealed, last=index == self.segments - 1)
        except Corrupt as error:
            raise self._corrupt(error) from None

    def segment_into(self, index: int, out: memoryview, scratch: memoryview) -> int:
        """Write what `segment` returns to the front of `out`; return its length.  Allocates nothing: fast.

        `out` has room for SEGMENT bytes, `scratch` for SEGMENT + TAG; each belongs to one thread at a time.
        """
        sealed = scratch[: self._sealed(index)]
        self._fetch(index, sealed)
        try:
            return self._opener.open_into(index, sealed, out, last=index == self.segments - 1)
        except Corrupt as error:
            raise self._corrupt(error) from None

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on, fewer at the end of the file.  Raises Corrupt."""
        if not 0 <= offset <= self.size or length < 0:
            raise BadMessage(f"bytes {offset} to {offset + length} of a file of {self.size} bytes")
        end = min(offset + length, self.size)
        parts = []
        for index in range(offset // SEGMENT, -(-end // SEGMENT)):
            first = index * SEGMENT
            parts.append(self._kept(index)[max(0, offset - first) : end - first])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def digest(self) -> Digest:
        """Return the digest of the bytes, read to the end; it should be the file's name.  Raises Corrupt."""
        state = Sha256()
        out, scratch = memoryview(bytearray(SEGMENT)), memoryview(bytearray(SEGMENT + TAG))
        for index in range(self.segments):
            state.update(out[: self.segment_into(index, out, scratch)])
        return state.hexdigest()

    def _kept(self, index: int) -> bytes:
        """Return a segment, remembering the last one: small reads come in order."""
        recent = self._recent
        if recent is None or recent[0] != index:
            self._recent = recent = (index, self.segment(index))
        return recent[1]

    def _sealed(self, index: int) -> int:
        if not 0 <= index < self.segments:
            raise BadMessage(f"segment {index} of a file of {self.segments} segments")
        return min(SEGMENT, self.size - index * SEGMENT) + TAG

    def _fetch(self, index: int, buffer: memoryview) -> None:
        with disk(self._path):
            found = read_at(self._file, buffer, HEADER + index * (SEGMENT + TAG))
        if found != len(buffer):
            raise Corrupt(f"{self._path}: it was cut short while it was read")

    def _corrupt(self, error: Corrupt) -> Corrupt:
        return Corrupt(f"{self._path}: {error}")
