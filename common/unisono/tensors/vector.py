"""The travelling vector of a plain file: any stretch of it, without reading the rest.

Coordinate k of a run is the same number at every client and at the coordinator: the k-th element, in
file order, of the tensors that travel.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import Corrupt

from .dtypes import DTYPES, Bytes, check_finite, to_float32
from .manifest import Manifest, Piece

Reader = Callable[[int, int], Bytes]  # (offset, length) -> exactly `length` bytes


class Travelling:
    """Reads stretches of the travelling vector of one file.  Memory: the stretch asked for."""

    def __init__(self, manifest: Manifest, read: Reader) -> None:
        self._read = read
        self._pieces = [p for p in manifest.pieces() if p.start is not None and p.bytes]
        self._starts = [p.start for p in self._pieces if p.start is not None]
        self.length = manifest.length

    def overlaps(self, start: int, stop: int) -> Iterator[tuple[Piece, int, int]]:
        """Yield (piece, begin, end) for coordinates start..stop; begin and end count from the piece's own."""
        if not 0 <= start <= stop <= self.length:
            raise ValueError(f"coordinates {start}..{stop} of a vector of {self.length}")
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            piece, first = self._pieces[index], self._starts[index]
            end = min(stop, first + piece.entry.size)
            yield piece, start - first, end - first
            start, index = end, index + 1

    def values(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return coordinates start..stop as a new float32 array.

        Raises BadUpdate, naming the tensor, if one is NaN or infinite, Corrupt if the file ends early.
        """
        out = np.empty(stop - start, np.float32)
        filled = 0
        for piece, begin, end in self.overlaps(start, stop):
            raw = read_elements(self._read, piece, begin, end)
            found = to_float32(raw, piece.entry.dtype)
            check_finite(found, f'tensor "{piece.entry.name}" from element {begin}')
            out[filled : filled + found.size] = found
            filled += found.size
        return out


def read_elements(read: Reader, piece: Piece, begin: int, end: int) -> Bytes:
    """Return the bytes of elements begin..end of one tensor.  Raises Corrupt if there are fewer."""
    size = DTYPES[piece.entry.dtype].size
    raw = read(piece.file_offset + begin * size, (end - begin) * size)
    if len(raw) != (end - begin) * size:
        raise Corrupt(f'the file ends inside tensor "{piece.entry.name}"')
    return raw


def norm(manifest: Manifest, read: Reader, block: int = 1 << 18) -> float:
    """Return the Euclidean norm of the travelling vector; squares are added in float64, in one order."""
    vector = Travelling(manifest, read)
    total = 0.0
    for start in range(0, vector.length, block):
        values = vector.values(start, min(start + block, vector.length)).astype(np.float64)
        total += float(np.square(values, out=values).sum())
    return math.sqrt(total)
