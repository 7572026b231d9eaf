"""Parts of a sum as means: stretch by stretch, or, if they were rotated, turned back as a whole."""

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import Corrupt
from unisono.codec import CHUNK, Decoder, Rotation, Spec, SpecPart, Together, check_lanes
from unisono.strategies import Vector
from unisono.tensors import Reader


class Means:
    """One part.  A rotated one is in memory as a whole, 4 bytes a coordinate; any other one never is.

    Raises BadUpdate if the sum cannot be one of `survivors` clients.
    """

    def __init__(self, spec: Spec, part: SpecPart, survivors: int, divisor: float, sums: Reader) -> None:
        self._spec, self._part, self._survivors, self._sums = spec, part, survivors, sums
        self._divisor = divisor
        self.squares = 0.0  # of all that was read
        self._turned: Vector | None = None

    def turn(self, signs: bytes, together: Together) -> None:
        """Turn a rotated part back.  `signs` is the key of the rotation; stretches are decoded `together`."""
        vector = np.empty(self._spec.coordinates(self._part), np.float32)

        def decode(start: int) -> None:
            self._decode(start, vector[start : start + CHUNK])

        together(decode, range(0, vector.size, CHUNK))
        if self._part.length:
            Rotation(signs, self._part.length, self._spec.start(self._part.name)).inverse(vector, together)
        self._turned = vector

    def read(self, start: int, stop: int) -> Vector:
        """Return coordinates start..stop; `start` is a multiple of CHUNK."""
        if self._turned is None:
            mean = np.empty(stop - start, np.float32)
            self._decode(start, mean)
        else:
            mean = self._turned[start:stop]
        self.squares += float(np.square(mean, dtype=np.float64).sum())
        return mean

    def _decode(self, start: int, out: Vector) -> None:
        name = self._part.name
        words = read_words(self._sums, *self._spec.word_range(name, start, start + out.size))
        check_lanes(self._spec, self._part, words, self._survivors, out.size)
        Decoder(self._spec, self._part, self._survivors, self._divisor).decode(words, out)


def read_words(read: Reader, first: int, count: int) -> NDArray[np.uint64]:
    """Return words of the sum.  Raises Corrupt if it ends before."""
    raw = read(8 * first, 8 * count)
    if len(raw) != 8 * count:
        raise Corrupt(f"the sum ends inside words {first} to {first + count}")
    return np.frombuffer(raw, "<u8")
