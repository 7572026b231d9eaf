"""Uploads as they travel, until their round is over: ciphertext, resumable over any interruption.

One folder a run; a file's name says all: ROUND-ATTEMPT-CLIENT-DIGEST, with ".part" until it is whole, checked
and durable.  Round and attempt come first, because what is forgotten is forgotten by them.
"""

import os
import re
import shutil
from pathlib import Path

from unisono.base.errors import BadMessage, Corrupt, Fault, Unavailable
from unisono.base.ids import ClientName, Digest, RunId, is_digest, is_name
from unisono.crypto import Sha256

from .disk import disk, make_folder, read_at, settle, sync_folder, write_at

_RUN = re.compile(r"r-\d{4,9}")
_FILE = re.compile(r"(\d{1,9})-(\d{1,9})-.+")
_PART = ".part"
_BUFFER = 1 << 20


class Spool:
    """A folder of uploads.  May be used from any thread; one process owns the folder."""

    def __init__(self, root: Path, limit: int) -> None:
        """`limit`: the most bytes that one upload may announce."""
        self._root, self._limit = root, limit
        with disk(root):
            make_folder(root)

    def part(
        self,
        run: RunId,
        round_: int,
        attempt: int,
        client: ClientName,
        digest: Digest,
        size: int,
    ) -> "Part":
        """Begin or go on with an upload.  Another unfinished one of this client for this attempt is given up.

        Raises BadMessage if more bytes are announced than one upload may have.
        """
        if not 0 <= size <= self._limit:
            raise BadMessage(f"an upload of {size} bytes; at most {self._limit} are allowed")
        final = self.path(run, round_, attempt, client, digest)
        with disk(final):
            make_folder(final.parent)
            for other in final.parent.glob(f"{round_}-{attempt}-{client}-*{_PART}"):
                if other.name != final.name + _PART and _client(other.name) == client:
                    other.unlink(missing_ok=True)
            return Part(final, digest, size)

    def path(
        self,
        run: RunId,
        round_: int,
        attempt: int,
        client: ClientName,
        digest: Digest,
    ) -> Path:
        """Return where a finished upload lies."""
        if round_ < 0 or attempt < 0 or not is_name(client) or not is_digest(digest):
            raise BadMessage(f"no upload has the name {round_}-{attempt}-{client}-{digest}")
        return self._folder(run) / f"{round_}-{attempt}-{client}-{digest}"

    def discard(
        self,
        run: RunId,
        round_: int,
        attempt: int,
        client: ClientName,
        digest: Digest,
    ) -> None:
        """Delete one upload, finished or not; one that is not there is fine."""
        final = self.path(run, round_, attempt, client, digest)
        with disk(final):
            _part(final).unlink(missing_ok=True)
            final.unlink(missing_ok=True)

    def forget(self, run: RunId, round_: int, attempt: int | None = None) -> None:
        """Delete what there is of earlier rounds and, in this one, of attempts up to `attempt` (None: all).

        Later attempts stay: the order may come late, after a crash, when they have begun.
        """
        folder = self._folder(run)
        if not folder.is_dir():
            return
        with disk(folder):
            for name in os.listdir(folder):
                found = _FILE.fullmatch(name)
                if found is not None and _before((int(found[1]), int(found[2])), (round_, attempt)):
                    (folder / name).unlink(missing_ok=True)
            sync_folder(folder)

    def forget_run(self, run: RunId) -> None:
        """Delete all there is of a run."""
        folder = self._folder(run)
        with disk(folder):
            if folder.is_dir():
                shutil.rmtree(folder)
                sync_folder(self._root)

    def runs(self) -> tuple[RunId, ...]:
        """Return the runs that have something here."""
        return tuple(RunId(name) for name in sorted(os.listdir(self._root)) if _RUN.fullmatch(name))

    def _folder(self, run: RunId) -> Path:
        if _RUN.fullmatch(run) is None:
            raise BadMessage(f"no run has the name {run!r}")
        return self._root / run


class Part:
    """One upload.  `offset` is what the coordinator has, and so where the client goes on.

    No file stays open between calls, and writes go to their own offset: a stream that was taken over by a
    newer one of the same client can do no harm.  For one thread at a time.
    """

    def __init__(self, final: Path, digest: Digest, size: int) -> None:
        self.size, self._final, self._part, self._digest = size, final, _part(final), digest
        self._hash: Sha256 | None = None  # of the first `offset` bytes; made when it is needed
        self.finished = final.exists() and final.stat().st_size == size
        self.offset = size if self.finished else self._found()
        self._resumed = self.offset > 0

    def append(self, data: bytes | memoryview) -> None:
        """Write the next bytes.  Raises BadMessage beyond the announced end, Unavailable on a full disk."""
        if self.offset + len(data) > self.size:
            raise BadMessage(
                f"bytes {self.offset} to {self.offset + len(data)} of an upload of {self.size} bytes"
            )
        if not data:
            return
        running = self._running()
        with disk(self._part):
            file = self._open(os.O_RDWR | (os.O_CREAT if self.offset == 0 else 0))
            try:
                write_at(file, data, self.offset)
            except OSError:
                os.ftruncate(file, self.offset)  # half a chunk is not in the hash
                raise
            finally:
                os.close(file)
        running.update(data)
        self.offset += len(data)

    def finish(self) -> None:
        """Check the digest and make the file durable; one with another digest is deleted.

        Raises Corrupt if other bytes came than announced; Unavailable if what lay here since an interruption
        may have been damaged (a power failure leaves zeros): that is not the client's fault.
        """
        if self.finished:
            return
        if self.offset != self.size:
            raise BadMessage(f"the upload ended at byte {self.offset} of {self.size}")
        found = self._running().hexdigest()
        if found != self._digest:
            self._part.unlink(missing_ok=True)
            self.offset, self._hash = 0, None
            if self._resumed:
                self._resumed = False
                raise Unavailable("what had arrived before was damaged on the disk: begin again", 0.1)
            raise Corrupt(f"the uploaded bytes have the digest {found}, not {self._digest} as announced")
        with disk(self._part):
            file = self._open(os.O_RDWR | (os.O_CREAT if self.size == 0 else 0))
            try:
                settle(file, self._part, self._final)
            finally:
                os.close(file)
        self.finished = True

    def _found(self) -> int:
        try:
            length = self._part.stat().st_size
        except FileNotFoundError:
            return 0
        if length > self.size:  # announced longer before: not the same bytes
            self._part.unlink(missing_ok=True)
            return 0
        return length

    def _open(self, flags: int) -> int:
        try:
            return os.open(self._part, flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise Unavailable(
                f"the upload {self._final.name} was given up: begin again", retry_after=1.0
            ) from None

    def _running(self) -> Sha256:
        """Return the hash so far, rebuilt from the file after an interruption."""
        if self._hash is None:
            self._hash = Sha256()
            if self.offset:
                self._rebuild(self._hash)
        return self._hash

    def _rebuild(self, running: Sha256) -> None:
        buffer = memoryview(bytearray(min(_BUFFER, self.offset)))
        with disk(self._part):
            file = self._open(os.O_RDONLY)
            try:
                place = 0
                while place < self.offset:
                    wanted = buffer[: self.offset - place]
                    if read_at(file, wanted, place) != len(wanted):
                        raise Fault(f"{self._part} became shorter while it was read")
                    running.update(wanted)
                    place += len(wanted)
            finally:
                os.close(file)


def _part(final: Path) -> Path:
    return final.with_name(final.name + _PART)


def _client(name: str) -> str:
    """Return the client in a file's name; a client's own name may contain hyphens, a digest may not."""
    return name.split("-", 2)[2].rsplit("-", 1)[0]


def _before(found: tuple[int, int], bound: tuple[int, int | None]) -> bool:
    return found[0] < bound[0] or (found[0] == bound[0] and (bound[1] is None or found[1] <= bound[1]))
