"""Models on the coordinator's disk: named by the SHA-256 of their plain bytes, stored encrypted."""

import os
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from unisono.base.errors import Corrupt, Fault, NotFound
from unisono.base.ids import Digest, is_digest
from unisono.crypto import HEADER, SEGMENT, TAG, AtRest, Entropy, Sha256

from .disk import disk, make_folder, settle, sync_folder, write_at
from .reading import CONTEXT, Reader, stamp

_PART = ".part"


class LocalDir:
    """A folder of files by digest.  May be used from any thread; one process owns the folder.

    # Behavior (of every blob store; `tests/conformance` holds it against each)

    * `commit` returns when the file is durable; before it nobody sees anything.
    * A digest that is there names whole bytes; the same bytes twice are one file.
    * A file may be deleted while it is read: readers that have it open go on.
    """

    def __init__(self, root: Path, at_rest: AtRest, entropy: Entropy) -> None:
        self.root, self._at_rest, self._entropy = root, at_rest, entropy
        self._parts = count()
        self._sure: dict[
            Digest, tuple[int, ...]
        ] = {}  # files that are what their names say, as they were then
        with disk(root):
            make_folder(root)
            for left in root.glob(f"*{_PART}"):  # by a process that was killed
                left.unlink()

    def writer(self) -> "Blob":
        """Begin a file."""
        name = f"{next(self._parts)}{_PART}"
        return Blob(self.root, name, self._at_rest, self._entropy, self._sure)

    def open(self, digest: Digest) -> Reader:
        """Open a file for reading.  Raises NotFound, Corrupt.

        Its digest is computed the first time, and again if somebody else has touched it: each segment is
        authentic by itself, but the whole might be another model, put in its place.
        """
        reader = Reader(self._path(digest), self._at_rest)
        try:
            found = reader.stamp
            if self._sure.get(digest) != found:
                reader.check(digest)
                self._sure[digest] = found
        except BaseException:
            reader.close()
            raise
        return reader

    def exists(self, digest: Digest) -> bool:
        """Tell whether the file is here."""
        return self._path(digest).exists()

    def size(self, digest: Digest) -> int:
        """Return the plain bytes of a file.  Raises NotFound, Corrupt."""
        with self.open(digest) as reader:
            return reader.size

    def delete(self, digest: Digest) -> None:
        """Delete a file; one that is not there is fine."""
        path = self._path(digest)
        with disk(path):
            self._sure.pop(digest, None)
            path.unlink(missing_ok=True)
            sync_folder(self.root)

    def delete_older(self, digest: Digest, wall: float) -> bool:
        """Delete a file that was written before `wall`; tell whether it is gone."""
        path = self._path(digest)
        if path.exists() and path.stat().st_mtime >= wall:
            return False
        self.delete(digest)
        return True

    def digests(self) -> frozenset[Digest]:
        """Return what is here."""
        return frozenset(Digest(name) for name in os.listdir(self.root) if is_digest(name))

    def _path(self, digest: Digest) -> Path:
        if not is_digest(digest):  # it comes from peers, and becomes part of a path
            raise NotFound(f"{digest!r} is no SHA-256: 64 lower-case hexadecimal digits")
        return self.root / digest


class Blob:
    """A file in the making: `write` any number of chunks of any size, then `commit` or `abort`.

    Without `commit`, for example after an error inside `with`, it leaves nothing.  For one thread at a time.
    """

    def __init__(
        self, root: Path, name: str, at_rest: AtRest, entropy: Entropy, sure: dict[Digest, tuple[int, ...]]
    ) -> None:
        self.offset = 0  # plain bytes so far
        self._root, self._part, self._sure = root, root / name, sure
        self._digest = Sha256()
        self._plain, self._kept = memoryview(bytearray(SEGMENT)), 0  # the segment that is being filled
        self._sealed = memoryview(bytearray(SEGMENT + TAG))
        self._place = HEADER
        header, self._sealer = at_rest.new(entropy, CONTEXT)
        with disk(self._part):
            self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._guarded(header, 0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append plain bytes.  Raises Unavailable when the disk is full: the file is then given up."""
        if self._file < 0:
            raise Fault(f"{self._part.name} was written to after its end")
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self.offset += len(view)
        while view:
            if self._kept == SEGMENT:  # only now is it certain that this segment is not the last
                self._flush(last=False)
            taken = view[: SEGMENT - self._kept]
            self._plain[self._kept : self._kept + len(taken)] = taken
            self._kept += len(taken)
            view = view[len(taken) :]

    def commit(self, expected: Digest | None = None) -> Digest:
        """Make the file durable under its digest, which is returned; one that is there is replaced.

        Raises Corrupt if that is not the digest expected; then no file is touched, and this one is given up.
        """
        if self._file < 0:
            raise Fault(f"{self._part.name} was committed after its end")
        digest = self._digest.hexdigest()
        if expected not in (None, digest):
            self.abort()
            raise Corrupt(f"the bytes have the digest {digest}, not {expected} as announced")
        self._flush(last=True)
        try:
            with disk(self._part):
                settle(self._file, self._part, self._root / digest)
                self._sure[digest] = stamp(self._file)
        except BaseException:
            self.abort()
            raise
        self._close()
        return digest

    def abort(self) -> None:
        """Give the file up; harmless after `commit`."""
        if self._file >= 0:
            self._close()
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _flush(self, *, last: bool) -> None:
        length = self._sealer.seal_into(self._plain[: self._kept], self._sealed, last=last)
        self._guarded(self._sealed[:length], self._place)
        self._place, self._kept = self._place + length, 0

    def _guarded(self, data: memoryview | bytes, place: int) -> None:
        try:
            with disk(self._part):
                write_at(self._file, data, place)
        except BaseException:
            self.abort()
            raise

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1
