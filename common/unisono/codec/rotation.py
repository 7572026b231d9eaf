"""Rotation: spreads a vector's length evenly over its coordinates, so that one bound suits them all.

Updates have loud layers and quiet ones, and single loud coordinates; with one grid for all, narrow lanes
would clip the first and lose the second.  Random signs, then Walsh-Hadamard transforms in two stages

    | block 0: H_4096 | block 1: H_4096 | ...       neighbours mix
    | segment 0 ...   | segment 1 ...   | ...       H_S across S far-apart segments: layers mix

turn any vector into one whose coordinates look like a normal sample of variance ||x||^2 / D (reference:
secure-aggregation, 5.1).  It is linear, so the sum can be turned back, and keeps lengths.

S is the largest power of two with segments of a block or more, 1024 at most, not 64 as in the reference:
where one small layer has 30 % of the length of 6.25 M coordinates, S = 64 clips 7e-5 of the squared length
at eight standard deviations, S = 1024 nothing, for 15 % more time.  It also makes any whole number of
blocks do: no padding to 64 of them.

Only additions, subtractions and multiplications of float32 in a fixed order: every machine gets the same
bits.  NumPy is fast along long rows only; hence blocks are worked on as 64 x 64, transposed in between.
"""

import math

import numpy as np
from numpy.typing import NDArray

from unisono.crypto.prg import Stream

BLOCK = 4096  # coordinates of the first stage
SIDE = 64  # of a block as a square
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
        with np.errstate(over="ignore", invalid="ignore"):
            self._blocks(vector, turned=False)
            self._across(vector)

    def inverse(self, vector: Vector) -> None:
        """Undo `forward` but for float32's rounding (1e-7 of the length): segments, blocks, signs."""
        self._check(vector)
        with np.errstate(over="ignore", invalid="ignore"):
            self._across(vector)
            self._blocks(vector, turned=True)

    def _check(self, vector: Vector) -> None:
        if vector.shape != (self.length,) or vector.dtype != np.float32 or not vector.flags.c_contiguous:
            raise ValueError(f"{vector.dtype}{vector.shape}: a rotation of float32({self.length},), in order")

    def _blocks(self, vector: Vector, *, turned: bool) -> None:
        """Transform every block, its signs applied before or (`turned`) after.

        The outer 6 of the 12 levels, a transposition, the other 6.  That it stays transposed does no
        harm: the same again is the inverse.
        """
        signs = Stream(self._key, 4 * self._start)
        for start in range(0, vector.size, TILE):
            x = vector[start : start + TILE]
            a, b = (scratch[: x.size] for scratch in self._scratch)
            squares = -1, SIDE, SIDE
            if not turned:
                self._flip(x, signs, b)
            _hadamard(x.reshape(squares), (a.reshape(squares), b.reshape(squares)), b.reshape(squares))
            np.copyto(a.reshape(squares), b.reshape(squares).transpose(0, 2, 1))
            _hadamard(a.reshape(squares), (b.reshape(squares), a.reshape(squares)), x.reshape(squares))
            if turned:
                self._flip(x, signs, b)

    def _flip(self, x: Vector, signs: Stream, scratch: Vector) -> None:
        """Apply signs, and what makes both stages keep lengths."""
        words = scratch.view("<u4")
        signs.fill(words)
        np.bitwise_and(words, SIGN, out=words)
        np.multiply(x, self._scale, out=x)
        np.bitwise_xor(x.view(np.uint32), words, out=x.view(np.uint32))

    def _across(self, vector: Vector) -> None:
        """Transform across segments, some columns at a time."""
        if self.segments == 1:
            return
        rows = vector.reshape(1, self.segments, -1)
        width = TILE // self.segments
        for start in range(0, rows.shape[2], width):
            x = rows[:, :, start : start + width]
            a, b = (scratch[: x.size].reshape(x.shape) for scratch in self._scratch)
            _hadamard(x, (a, b), x)


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
