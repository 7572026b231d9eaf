"""The sum of uploads in the ring Z_2^64: exact, and independent of the order they arrive in."""

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate
from unisono.tensors import Bytes


class RunningSum:
    """Words of a vector, or of one stretch of it; adding releases the GIL and allocates nothing."""

    def __init__(self, words: int) -> None:
        self.values: NDArray[np.uint64] = np.zeros(words, "<u8")

    def add(self, offset_words: int, chunk: NDArray[np.uint64]) -> None:
        """Add a chunk of an upload from word `offset_words` on.

        Each word of an upload must be added once; that is the caller's ledger, no sum can tell.  Raises
        BadUpdate beyond the end.
        """
        end = offset_words + chunk.size
        if offset_words < 0 or end > self.values.size:
            raise BadUpdate(f"words {offset_words} to {end} of an update of {self.values.size} words")
        part = self.values[offset_words:end]
        np.add(part, chunk, out=part)

    def read(self, offset: int, length: int) -> Bytes:
        """Return bytes of the sum, little-endian, without copying: the Reader for `Inputs.sums`."""
        return self.values.view(np.uint8).data[offset : offset + length]
