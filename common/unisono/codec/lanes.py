"""Lanes: unsigned integers of w bits, several in one little-endian 64-bit word.

Lane 0 is in the lowest bits; the highest 64 mod w bits stay 0.  Words of many clients are added as
whole 64-bit numbers; no lane carries into its neighbour because the sum of n lanes fits its width
(`Spec.levels`).
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
LANES = (12, 16, 21, 32)  # widths: 5, 4, 3, 2 lanes a word

# Chunks of a vector begin at multiples of ALIGNMENT coordinates: a whole number of words, 16 at least,
# for every width.  A CHUNK is the largest such number of float32 that fits 1 MiB.
ALIGNMENT = 960
CHUNK = (1 << 18) // ALIGNMENT * ALIGNMENT


def per_word(width: int) -> int:
    """Return how many lanes of `width` bits one word holds."""
    return 64 // width


def word_count(length: int, width: int) -> int:
    """Return the words that `length` lanes take; the last may be part empty."""
    return -(-length // per_word(width))


def pack(levels: NDArray[np.float64], width: int, out: Words) -> None:
    """Write whole numbers 0 <= levels < 2^width into `out`; unused lanes and bits become 0.

    `out` has word_count(levels.size, width) words.
    """
    if width in (16, 32):  # a lane is a machine integer: a word is just two or four of them in memory
        lanes = out.view(f"<u{width // 8}")
        np.copyto(lanes[: levels.size], levels, casting="unsafe")
        lanes[levels.size :] = 0
        return
    count = per_word(width)
    full = levels.size // count
    whole = levels[: full * count].reshape(full, count)
    _join(whole, width, out[:full])
    if full < out.size:
        rest = np.zeros((1, count))
        rest[0, : levels.size - full * count] = levels[full * count :]
        _join(rest, width, out[full:])


def unpack(words: Words, width: int, out: NDArray[np.float64]) -> None:
    """Read the first out.size lanes of `words` into `out`."""
    if width in (16, 32):
        np.copyto(out, words.view(f"<u{width // 8}")[: out.size])
        return
    count, mask = per_word(width), np.uint64((1 << width) - 1)
    shifted = np.empty_like(words)
    for lane in range(count):
        target = out[lane::count]
        part = words[: target.size]
        np.right_shift(part, np.uint64(lane * width), out=shifted[: target.size])
        np.bitwise_and(shifted[: target.size], mask, out=shifted[: target.size])
        np.copyto(target, shifted[: target.size], casting="unsafe")


def _join(levels: NDArray[np.float64], width: int, out: Words) -> None:
    lane = np.empty_like(out)
    np.copyto(out, levels[:, 0], casting="unsafe")
    for k in range(1, levels.shape[1]):
        np.copyto(lane, levels[:, k], casting="unsafe")
        np.left_shift(lane, np.uint64(k * width), out=lane)
        np.bitwise_or(out, lane, out=out)
