"""Rotation: spreads a vector's length evenly over its coordinates, so that one bound suits them all.

Updates have loud layers and quiet ones, and single loud coordinates; with one grid for all, narrow lanes
would clip the first and lose the second.  Random signs, then Walsh-Hadamard transforms in two stages

    | block 0: H_4096 | block 1: H_4096 | ...       neighbours mix
    | segment 0 ...   | segment 1 ...   | ...       H_S across S far-apart segments: layers mix

turn any vector into one whose coordinates look like a normal sample of variance ||x||^2 / D (reference:
secure-aggregation, 5.1).  It is linear, so the sum can be turned back, and keeps lengths.

S is the largest power of two with segments of a block or more, 1024 at most, not 64 as in the reference:
where one small layer has 30 % of the length of 6.25 M coordinates, S = 64 clips 7e-5 of the squared length
at eight standard deviations, S = 1024 nothing.  It also makes any whole number of blocks do: no padding
to 64 of them.

Forward, at a client, is products with small Hadamard matrices (BLAS), twice as fast as sums of rows; what
order they add in is the library's choice, so the last bit is this machine's, as that of its training is.
On one machine a vector gives the same bits again.  The inverse makes the model: only additions,
subtractions and multiplications of float32 in a fixed order, so that every machine gets the same bits of
the same sum (docs/adr/0011).  NumPy is fast along long rows only; hence it works on blocks as 64 x 64,
transposed in between.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from unisono.crypto.prg import Stream

BLOCK = 4096  # coordinates of the first stage
SIDE = 64  # of a block as a square
RADIX = 16  # of a block as a cube: three products
SEGMENTS = 1024  # at most, of the second stage
TILE = 16 * BLOCK  # coordinates at a time forward: 256 kB, and as much scratch twice
WIDE = 32 * BLOCK  # and back: its many short calls should be longer, for threads to hand over less often
SIGN = np.uint32(1 << 31)

Vector = NDArray[np.float32]
T = TypeVar("T")


class Together(Protocol):
    """Does one piece of work for each item, in any order; returns when all are done."""

    def __call__(self, work: Callable[[T], None], items: Iterable[T], /) -> None: ...


def in_turn(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do one after the other."""
    for item in items:
        work(item)


def padded(length: int) -> int:
    """Return the coordinates that a rotated vector has: whole blocks."""
    return -(-length // BLOCK) * BLOCK


class Rotation:
    """Rotates vectors of `length` coordinates, padded with zeros to `padded(length)`, in place.

    `key` is `rotation_stream`'s; `start` (`Spec.start`) is the part's place in that stream: the sign of
    coordinate k is the highest bit of its 32-bit little-endian word start + k.  The arithmetic releases the
    GIL.  A memory-mapped array is read and written twice.
    """

    def __init__(self, key: bytes, length: int, start: int = 0) -> None:
        self._key, self._start, self.length = key, start, padded(length)
        blocks = max(1, self.length // BLOCK)
        self.segments = min(SEGMENTS, 1 << (blocks.bit_length() - 1))
        self._scale = np.float32(1 / math.sqrt(BLOCK * self.segments))

    def forward(self, vector: Vector) -> None:
        """Rotate: signs, blocks, segments.  What is not finite spoils its block: the encoder refuses it.

        Scratch is 0.5 MiB.
        """
        self._check(vector)
        matrix, scratch = _matrix(RADIX), _scratch(min(TILE, self.length))
        outer, inner = (-1, RADIX, RADIX * RADIX), (-1, RADIX, RADIX)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, vector.size, TILE):
                x = vector[start : start + TILE]
                a, b = (each[: x.size] for each in scratch)
                self._flip(x, x, start, a)
                np.matmul(matrix, x.reshape(outer), out=a.reshape(outer))
                np.matmul(matrix, a.reshape(inner), out=b.reshape(inner))
                np.matmul(b.reshape(inner), matrix, out=x.reshape(inner))
            for columns in self._columns(vector, TILE):
                self._mix(columns, scratch[0])

    def inverse(self, vector: Vector, together: Together = in_turn) -> None:
        """Undo `forward` but for float32's rounding (1e-7 of the length): segments, blocks, signs.

        `together` does pieces of work in any order, some at once if it likes: the bits stay the same.  Each
        piece has 1 MiB of scratch.
        """
        self._check(vector)
        together(self._apart, self._columns(vector, WIDE))
        together(lambda start: self._back(vector, start), range(0, vector.size, WIDE))

    def _check(self, vector: Vector) -> None:
        if vector.shape != (self.length,) or vector.dtype != np.float32 or not vector.flags.c_contiguous:
            raise ValueError(f"{vector.dtype}{vector.shape}: a rotation of float32({self.length},), in order")

    def _columns(self, vector: Vector, tile: int) -> Iterator[Vector]:
        """Yield the second stage's tiles: some columns of all segments."""
        if self.segments > 1:
            rows, width = vector.reshape(self.segments, -1), tile // self.segments
            for start in range(0, rows.shape[1], width):
                yield rows[:, start : start + width]

    def _mix(self, columns: Vector, scratch: Vector) -> None:
        """Transform columns of the segments in place: as a matrix of segments, down and then across."""
        levels = self.segments.bit_length() - 1
        cube = columns.reshape(1 << levels // 2, 1 << (levels - levels // 2), -1)
        half = scratch[: cube.size].reshape(cube.shape)
        np.matmul(_matrix(cube.shape[1]), cube, out=half)
        np.matmul(_matrix(cube.shape[0]), half.transpose(1, 0, 2), out=cube.transpose(1, 0, 2))

    def _apart(self, columns: Vector) -> None:
        """Undo the second stage."""
        shape = 1, *columns.shape
        a, b = (each.reshape(shape) for each in _scratch(columns.size))
        with np.errstate(over="ignore", invalid="ignore"):
            _hadamard(columns.reshape(shape), (a, b), columns.reshape(shape))

    def _back(self, vector: Vector, start: int) -> None:
        """Undo the first stage: 6 of its 12 levels, a transposition, the other 6; then the signs."""
        x = vector[start : start + WIDE]
        scratch, square = _scratch(x.size), (-1, SIDE, SIDE)
        a, b = (each.reshape(square) for each in scratch)
        with np.errstate(over="ignore", invalid="ignore"):
            _hadamard(x.reshape(square), (a, b), b)
            np.copyto(a, b.transpose(0, 2, 1))
            _hadamard(a, (b, a), a)
            self._flip(a.transpose(0, 2, 1), x.reshape(square), start, scratch[1])

    def _flip(self, x: Vector, out: Vector, start: int, scratch: Vector) -> None:
        """Write coordinates from `start` with signs applied, and with what makes both stages keep lengths."""
        words = scratch.view("<u4")
        Stream(self._key, 4 * (self._start + start)).fill(words)
        np.bitwise_and(words, SIGN, out=words)
        np.multiply(x, self._scale, out=out)
        np.bitwise_xor(out.view(np.uint32), words.reshape(out.shape), out=out.view(np.uint32))


def _scratch(size: int) -> tuple[Vector, Vector]:
    return np.empty(size, np.float32), np.empty(size, np.float32)


@cache
def _matrix(rows: int) -> Vector:
    """Return Sylvester's Hadamard matrix, unscaled."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < rows:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _hadamard(x: Vector, scratch: tuple[Vector, Vector], out: Vector) -> None:
    """Transform axis 1 of three, without the factor that keeps lengths; `out` may be `x` or scratch.

    log2(rows) levels, each a sum and a difference of rows `half` apart.  Scratch is contiguous, `x` and
    `out` need not be; intermediate levels alternate in scratch, which a level must not read and write.
    """
    outer, rows, inner = x.shape
    levels = rows.bit_length() - 1
    if levels == 1:  # the only one that would read what it writes
        np.copyto(scratch[0], x)
        x = scratch[0]
    for level in range(levels):
        half = 1 << level
        pairs = outer, rows // (2 * half), 2, half, inner
        target = out if level == levels - 1 else scratch[level % 2]
        source, result = x.reshape(pairs), target.reshape(pairs)
        np.add(source[:, :, 0], source[:, :, 1], out=result[:, :, 0])
        np.subtract(source[:, :, 0], source[:, :, 1], out=result[:, :, 1])
        x = target
