"""Models on this site's disk: sealed at rest, read and written as streams, never whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from unisono.base.errors import BadUpdate, Corrupt
from unisono.base.ids import Digest
from unisono.crypto import (
    HEADER,
    SEGMENT,
    TAG,
    AtRest,
    Readable,
    Sealer,
    Sha256,
    cached,
    plain_length,
    system_entropy,
)
from unisono.crypto.buffers import flat
from unisono.tensors import DTYPES, Bytes, Manifest, Reader, check_header
from unisono.tensors.vector import read_elements

from .failures import Failed
from .model import STEP, Held


class SealedFile:
    """Reads any stretch of a model at rest; the last segment opened stays, so a pass opens each one once.

    The file is bound to its model's digest (`crypto.cached`), so what opens is that model: nothing is hashed.
    """

    def __init__(self, path: Path, at_rest: AtRest, model: Digest) -> None:
        self._file = path.open("rb", buffering=0)
        self.length = plain_length(os.fstat(self._file.fileno()).st_size - HEADER)
        self._opener = at_rest.opener(self._file.read(HEADER), cached(model))
        self._index = -1
        self._sealed, self._plain = bytearray(SEGMENT + TAG), bytearray(SEGMENT)

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


class SealedWriter:
    """Seals a stream of any pieces into segments; `sha256` and `bytes` are of what lies in the file."""

    def __init__(self, file: IO[bytes], header: bytes, sealer: Sealer) -> None:
        self._file, self._sealer = file, sealer
        self._sha256 = Sha256()
        self._plain, self._filled = bytearray(SEGMENT), 0
        self._sealed = bytearray(SEGMENT + TAG)
        self.bytes = 0
        self._put(header)

    def write(self, data: Readable) -> None:
        source = flat(data)
        while source:
            if self._filled == SEGMENT:  # only now is it known not to be the last
                self._seal(last=False)
            taken = source[: SEGMENT - self._filled]
            self._plain[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            source = source[len(taken) :]

    def finish(self) -> Digest:
        """Seal the last segment; return the SHA-256 of the file."""
        self._seal(last=True)
        return self._sha256.hexdigest()

    def _seal(self, *, last: bool) -> None:
        view = memoryview(self._plain)[: self._filled]
        length = self._sealer.seal_into(view, self._sealed, last=last)
        self._filled = 0
        self._put(memoryview(self._sealed)[:length])

    def _put(self, data: Readable) -> None:
        self._sha256.update(data)
        self.bytes += self._file.write(flat(data))


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


def save(held: Held, manifest: Manifest, path: Path, at_rest: AtRest) -> Digest:
    """Write the model at rest; return its digest, that of the plain file."""
    plain = Sha256()
    for raw in _plain(held, manifest):
        plain.update(raw)
    digest = plain.hexdigest()
    with whole(path) as file:
        writer = SealedWriter(file, *at_rest.new(system_entropy, cached(digest)))
        for raw in _plain(held, manifest):
            writer.write(raw)
        writer.finish()
    return digest


def _plain(held: Held, manifest: Manifest) -> Iterator[Bytes]:
    yield manifest.header
    for piece in manifest.pieces():
        for begin in range(0, piece.entry.size, STEP):
            yield held.raw(piece.entry.name, begin, min(begin + STEP, piece.entry.size))


def load(held: Held, manifest: Manifest, read: Reader) -> None:
    """Store a plain file's tensors into the model.  Raises Failed if it is another, Corrupt if damaged."""
    header = bytes(read(0, len(manifest.header)))
    try:
        check_header(header, manifest)
    except BadUpdate as differs:
        raise Failed("model_differs", str(differs)) from differs
    held.reset()
    for piece in manifest.pieces():
        step = STEP * 4 // DTYPES[piece.entry.dtype].size
        for begin in range(0, piece.entry.size, step):
            end = min(begin + step, piece.entry.size)
            held.store(piece.entry.name, begin, read_elements(read, piece, begin, end))
