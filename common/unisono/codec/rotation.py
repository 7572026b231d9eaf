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
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from unisono.crypto.prg import Stream

BLOCK = 4096  # coordinates of the first stage
SIDE = 64  # of a block as a square
RADIX = 16  # of a block as a cube: three products
SEGMENTS = 1024  # at most, of the second stage
TILE = 16 * BLOCK  # coordinates at a time: 256 kB, and as much scratch twice
SIGN = np.uint32(1 << 31)

Vector = NDArray[np.float32]


def padded(length: int) -> int:
    """Return the coordinates that a rotated vector has: whole blocks."""
    return -(-length // BLOCK) * BLOCK


class Rotation:
    """Rotates vectors of `length` coordinates, padded with zeros to `padded(length)`, in place.

    `key` is `rotation_stream`'s; `start` (`Spec.start`) is the part's place in that stream: the sign of
    coordinate k is the highest bit of its 32-bit little-endian word start + k.  Scratch is 0.5 MiB; one
    thread at a time; the arithmetic releases the GIL.  A memory-mapped array is read and written twice.
    """

    def __init__(self, key: bytes, length: int, start: int = 0) -> None:
        self._key, self._start, self.length = key, start, padded(length)
        blocks = max(1, self.length // BLOCK)
        self.segments = min(SEGMENTS, 1 << (blocks.bit_length() - 1))
        self._scale = np.float32(1 / math.sqrt(BLOCK * self.segments))
        size = min(TILE, self.length)
        self._scratch = np.empty(size, np.float32), np.empty(size, np.float32)

    def forward(self, vector: Vector) -> None:
        """Rotate: signs, blocks, segments.  What is not finite spoils its block: the encoder refuses it."""
        self._check(vector)
        signs, matrix = Stream(self._key, 4 * self._start), _matrix(RADIX)
        with np.errstate(over="ignore", invalid="ignore"):
            for x in _tiles(vector):
                a, b = self._scratches(x.size)
                self._flip(x, x, signs, a)
                outer, inner = (-1, RADIX, RADIX * RADIX), (-1, RADIX, RADIX)
                np.matmul(matrix, x.reshape(outer), out=a.reshape(outer))
                np.matmul(matrix, a.reshape(inner), out=b.reshape(inner))
                np.matmul(b.reshape(inner), matrix, out=x.reshape(inner))
            for x in self._columns(vector):
                self._mix(x)

    def inverse(self, vector: Vector) -> None:
        """Undo `forward` but for float32's rounding (1e-7 of the length): segments, blocks, signs."""
        self._check(vector)
        signs, square = Stream(self._key, 4 * self._start), (-1, SIDE, SIDE)
        with np.errstate(over="ignore", invalid="ignore"):
            for x in self._columns(vector):
                one = 1, *x.shape
                a, b = (scratch.reshape(one) for scratch in self._scratches(x.size))
                _hadamard(x.reshape(one), (a, b), x.reshape(one))
            for x in _tiles(vector):
                a, b = (scratch.reshape(square) for scratch in self._scratches(x.size))
                _hadamard(x.reshape(square), (a, b), b)
                np.copyto(a, b.transpose(0, 2, 1))
                _hadamard(a, (b, a), a)
                self._flip(a.transpose(0, 2, 1), x.reshape(square), signs, b.reshape(-1))

    def _check(self, vector: Vector) -> None:
        if vector.shape != (self.length,) or vector.dtype != np.float32 or not vector.flags.c_contiguous:
            raise ValueError(f"{vector.dtype}{vector.shape}: a rotation of float32({self.length},), in order")

    def _scratches(self, size: int) -> tuple[Vector, Vector]:
        first, second = self._scratch
        return first[:size], second[:size]

    def _flip(self, x: Vector, out: Vector, signs: Stream, scratch: Vector) -> None:
        """Write `x` with signs applied, and with what makes both stages keep lengths."""
        words = scratch.view("<u4")
        signs.fill(words)
        np.bitwise_and(words, SIGN, out=words)
        np.multiply(x, self._scale, out=out)
        np.bitwise_xor(out.view(np.uint32), words.reshape(out.shape), out=out.view(np.uint32))

    def _columns(self, vector: Vector) -> Iterator[Vector]:
        """Yield the second stage's tiles: some columns of all segments."""
        if self.segments > 1:
            rows, width = vector.reshape(self.segments, -1), TILE // self.segments
            for start in range(0, rows.shape[1], width):
                yield rows[:, start : start + width]

    def _mix(self, x: Vector) -> None:
        """Transform the columns of some segments in place: a matrix of segments, down and then across."""
        levels = self.segments.bit_length() - 1
        cube = x.reshape(1 << levels // 2, 1 << (levels - levels // 2), -1)
        scratch = self._scratches(x.size)[0].reshape(cube.shape)
        np.matmul(_matrix(cube.shape[1]), cube, out=scratch)
        np.matmul(_matrix(cube.shape[0]), scratch.transpose(1, 0, 2), out=cube.transpose(1, 0, 2))


def _tiles(vector: Vector) -> Iterator[Vector]:
    for start in range(0, vector.size, TILE):
        yield vector[start : start + TILE]


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
