"""From the stored vector to the file that travels: one pass, 1 MiB at a time, whatever its size.

    vector at rest -> open -> ranges held -> + and - masks, mod 2^64 -> file, mode 0600, named by its digest

Nothing of the vector is on the disk in the clear: what is written is masked.  The same streams give the same
bytes, so a file that a crash left is used again if it is whole, and made again if it is not.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unisono.base.errors import BadUpdate, Corrupt
from unisono.base.ids import Digest
from unisono.client.session import Attempt, Masked
from unisono.client.trainer.at_rest import SealedFile
from unisono.codec import Spec, decode_head, per_word
from unisono.codec.lanes import Words
from unisono.crypto import SEGMENT, Sha256
from unisono.secagg.client.refusals import UpdateOutOfRange
from unisono.secagg.shared.keys import MaskStream
from unisono.secagg.shared.masks import SCRATCH, Mask

from .files import digest_of, write_all

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Stored:
    """A vector at rest, and what it is held to."""

    file: SealedFile
    sha256: Digest  # of its plain words
    spec: Spec


def mask(stored: Stored, streams: Sequence[MaskStream], out: Path, progress: Progress) -> Digest:
    """Write the masked file and return its digest.

    Raises Corrupt if the vector is not the one of its digest, UpdateOutOfRange (row 20) if its numbers are
    not what a client may add.
    """
    size, ranges = stored.spec.bytes, Ranges(stored.spec)
    if stored.file.length != size:
        raise Corrupt(f"the stored vector has {stored.file.length} bytes; the spec has {size}")
    plain, masked = Sha256(), Sha256()
    scratch, words = np.empty(SCRATCH, np.uint64), np.empty(SEGMENT // 8, "<u8")
    masks = [(Mask(stream.key, scratch), stream.add) for stream in streams]
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
        for offset in range(0, size, SEGMENT):
            raw = stored.file.read(offset, SEGMENT)
            piece = words[: len(raw) // 8]
            np.copyto(piece, np.frombuffer(raw, "<u8"))
            plain.update(piece)
            ranges.take(piece)
            for one, add in masks:
                (one.add if add else one.subtract)(piece, offset)
            masked.update(piece)
            write_all(file, piece.data)
            progress(offset + piece.nbytes, size)
    ranges.finish()
    if plain.hexdigest() != stored.sha256:
        raise Corrupt("the stored vector has another digest than when it was stored")
    return masked.hexdigest()


class Ranges:
    """Holds a single client's words, in their order, to the spec: the sum of all must not carry.

    A lane is at most 2Q, less than half of what it holds (n >= 3), so two passes over whole words tell: no
    lane has its highest bit, nor has one after 2^(w-1) - 1 - 2Q was added to all.
    """

    def __init__(self, spec: Spec) -> None:
        width, count = spec.lanes, per_word(spec.lanes)
        ones = sum(1 << (lane * width) for lane in range(count))
        self._high = np.uint64(ones << (width - 1) | ((1 << 64) - (1 << (width * count))))
        self._lift = np.uint64(ones * ((1 << (width - 1)) - 1 - 2 * spec.levels))
        self._spec, self._lanes_left = spec, spec.head_offset
        self._head: list[Words] = []
        self._scratch = np.empty(SCRATCH, np.uint64)

    def take(self, words: Words) -> None:
        lanes, head = words[: self._lanes_left], words[self._lanes_left :]
        self._lanes_left -= lanes.size
        if head.size:
            self._head.append(head.copy())
        for start in range(0, lanes.size, SCRATCH):
            part = lanes[start : start + SCRATCH]
            lifted = self._scratch[: part.size]
            np.add(part, self._lift, out=lifted)
            np.bitwise_or(lifted, part, out=lifted)
            if np.bitwise_or.reduce(lifted) & self._high:
                raise UpdateOutOfRange(f"a lane of the vector is above {2 * self._spec.levels}")

    def finish(self) -> None:
        """Check the head: 1 for this client, a weight of 1 at most, nothing too large for the sum."""
        words = np.concatenate(self._head) if self._head else np.empty(0, np.uint64)
        try:
            head = decode_head(words, self._spec)
        except BadUpdate as wrong:
            raise UpdateOutOfRange(str(wrong)) from None
        if head["one"] != 1.0 or not 0.0 < head["weight"] <= 1.0:
            raise UpdateOutOfRange(
                "the vector's head does not count this client once, at a weight of 1 at most"
            )
        most = (2**63 - 1) // self._spec.clients
        if any(abs(value) > most for value in words.view(np.int64).tolist()):
            raise UpdateOutOfRange("a number of the vector's head is too large for the sum")


class Shelf:
    """Where masked files lie: STEM.masking while one is written, then STEM-DIGEST.masked."""

    def __init__(self, folder: Path, at: Attempt) -> None:
        self._folder, self._stem = folder, f"{at.run}-{at.round}-{at.attempt}"
        self.part = folder / f"{self._stem}.masking"

    def place(self, sha256: Digest, size: int) -> Masked:
        """Name the file that was written after its bytes.  Not synced: it can be made again."""
        file = f"{self._stem}-{sha256}.masked"
        self.part.replace(self._folder / file)
        return Masked(file, sha256, size)

    def find(self, size: int) -> Masked | None:
        """Return what an earlier process left, if it is whole."""
        for path in self._folder.glob(f"{self._stem}-*.masked"):
            sha256 = Digest(path.stem.rpartition("-")[2])
            if path.stat().st_size == size and digest_of(path) == sha256:
                return Masked(path.name, sha256, size)
        return None

    def clear(self) -> None:
        for path in (self.part, *self._folder.glob(f"{self._stem}-*.masked")):
            with suppress(FileNotFoundError):
                path.unlink()
