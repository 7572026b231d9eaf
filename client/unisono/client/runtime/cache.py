"""Models on this site's disk: cache/<digest>, encrypted at rest, named by the digest of their plain bytes."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from unisono.base.errors import BadMessage, Corrupt, NotFound
from unisono.base.ids import Digest
from unisono.client.trainer.context import cached
from unisono.crypto import (
    HEADER,
    SEGMENT,
    TAG,
    AtRest,
    Sha256,
    encode,
    layout,
    plain_length,
    sealed_length,
    system_entropy,
)

from .files import private_folder, write_all


class Cache:
    """Whole models, and parts of models that are still arriving.

    Those are two files: `<digest>.part` holds whole segments, `<digest>.rest` what came after them.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder, self._at_rest = private_folder(folder), AtRest(key)

    def path(self, digest: Digest) -> Path:
        return self._folder / digest

    def has(self, digest: Digest, plain: int | None = None) -> bool:
        """Tell whether a model is here, of `plain` bytes if that is known."""
        try:
            size = self.path(digest).stat().st_size
        except FileNotFoundError:
            return False
        return plain is None or size == HEADER + sealed_length(plain)

    def plain_bytes(self, digest: Digest) -> int:
        """Return the size of a model's plain file.  Raises NotFound."""
        try:
            return plain_length(self.path(digest).stat().st_size - HEADER)
        except FileNotFoundError:
            raise NotFound(f"model {digest[:12]}... is not in this site's cache") from None

    def remove(self, digest: Digest) -> None:
        for path in (self.path(digest), self.part(digest), self.rest(digest)):
            with suppress(FileNotFoundError):
                path.unlink()

    def read(self, digest: Digest, plain: int, offset: int = 0) -> Iterator[bytes]:
        """Yield a model's plain bytes from `offset` on, at most 1 MiB at a time.  Raises Corrupt."""
        with self.path(digest).open("rb") as file:
            opener = self._at_rest.opener(file.read(HEADER), cached(digest))
            for index, start, stop, last in layout(plain):
                if stop <= offset and not last:
                    continue
                file.seek(HEADER + index * (SEGMENT + TAG))
                segment = opener.open(index, file.read(stop - start + TAG), last=last)
                if segment[max(0, offset - start) :]:
                    yield segment[max(0, offset - start) :]

    def arriving(self, digest: Digest, plain: int) -> "Arriving":
        """Return the writer of a model of `plain` bytes that goes on where an earlier one stopped."""
        return Arriving(self, self._at_rest, digest, plain)

    def sweep(self, known: Collection[Digest]) -> None:
        """Remove every file that is none of these models: parts of others, and what a crash left."""
        for path in self._folder.iterdir():
            if path.name not in known:
                path.unlink()

    def part(self, digest: Digest) -> Path:
        return self._folder / f"{digest}.part"

    def rest(self, digest: Digest) -> Path:
        return self._folder / f"{digest}.rest"


def _rest(model: Digest, start: int) -> bytes:
    """Return the context of what came of a model from `start` on: never to be taken for the whole."""
    return encode("rest", model, start)


class Arriving:
    """Takes a model's bytes in order; `finish` checks the digest and puts the file in its place.

    What an earlier writer left is read, hashed and sealed again under a fresh key: a segment that was
    written twice under one key could otherwise share its nonce with other bytes.  Not fsynced: it can be
    fetched again.
    """

    def __init__(self, cache: Cache, at_rest: AtRest, digest: Digest, plain: int) -> None:
        self._cache, self._digest, self._plain, self._at_rest = cache, digest, plain, at_rest
        self._old, self._new = cache.part(digest), cache.part(digest).with_suffix(".new")
        self._hash, self._pending, self._sealed, self.offset = Sha256(), bytearray(), 0, 0
        self._buffer = bytearray(SEGMENT + TAG)
        header, self._sealer = at_rest.new(system_entropy, cached(digest))
        self._file: BinaryIO = os.fdopen(
            os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0
        )
        write_all(self._file, header)
        self._take_over()
        self._take_rest()
        self._new.replace(self._old)

    def _take_over(self) -> None:
        """Keep the whole segments, except the last of the file, that an earlier writer left."""
        if not self._old.exists():
            return
        with self._old.open("rb") as old, suppress(Corrupt):
            opener = self._at_rest.opener(old.read(HEADER), cached(self._digest))
            for index, start, stop, last in layout(self._plain):
                sealed = old.read(SEGMENT + TAG)
                if last or len(sealed) < stop - start + TAG:
                    return
                self.write(self.offset, opener.open(index, sealed, last=False))

    def _take_rest(self) -> None:
        """Keep what an earlier writer had of the segment that is next, unless the model was then larger."""
        with suppress(FileNotFoundError, Corrupt, BadMessage):
            raw = self._cache.rest(self._digest).read_bytes()
            opener = self._at_rest.opener(raw[:HEADER], _rest(self._digest, self.offset))
            self.write(self.offset, opener.open(0, raw[HEADER:], last=True))

    def _keep_rest(self) -> None:
        """Write down what has come of an unfinished segment: on a slow line it took a minute."""
        header, sealer = self._at_rest.new(system_entropy, _rest(self._digest, self._sealed))
        path = self._cache.rest(self._digest)
        with suppress(OSError):  # a full disk, say: what is not kept comes again
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:
                write_all(file, header + sealer.seal(self._pending, last=True))

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Take the next bytes.  Raises BadMessage for a gap, or for more than was announced."""
        if offset != self.offset:
            raise BadMessage(f"the model's bytes from {self.offset} on were due, those from {offset} on came")
        if self.offset + len(data) > self._plain:
            raise BadMessage(f"more than the {self._plain} bytes came that the model has")
        self._hash.update(data)
        self.offset += len(data)
        if not self._pending and len(data) == SEGMENT:  # the usual case: no copy
            self._seal(data)
            return
        self._pending += data
        while len(self._pending) >= SEGMENT:
            self._seal(self._pending[:SEGMENT])
            del self._pending[:SEGMENT]

    def _seal(self, segment: bytes | bytearray | memoryview) -> None:
        self._sealed += len(segment)
        size = self._sealer.seal_into(segment, self._buffer, last=self._sealed == self._plain)
        write_all(self._file, memoryview(self._buffer)[:size])

    def finish(self) -> None:
        """Raise Corrupt, and forget all of it, unless the bytes are those of the digest."""
        found = self._hash.hexdigest()
        if self.offset != self._plain or found != self._digest:
            self.close()
            self._cache.remove(self._digest)  # the rest, too
            raise Corrupt(
                f"{self.offset} bytes came with SHA-256 {found[:12]}...; announced were {self._plain} with "
                f"{self._digest[:12]}..."
            )
        if self._pending or not self._plain:
            self._seal(self._pending)
        self._pending.clear()
        self.close()
        self._old.replace(self._cache.path(self._digest))
        self._cache.rest(self._digest).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the file; what has come stays for the next writer."""
        if self._pending and not self._file.closed:
            self._keep_rest()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
