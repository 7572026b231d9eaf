"""Float32 coordinates to lanes and back, block by block.

A coordinate x becomes floor(x * Q / reach + u) with u uniform in [0, 1): stochastic rounding, whose
expectation is exactly x * Q / reach, so that errors of many clients cancel instead of adding up.  Then
it is clamped to [-Q, Q] as a *whole number*: clamping x alone is not enough, because Q + u may round up
to Q + 1, and one such client makes a lane carry into its neighbour (reference 5.1).  Q is added and the
result, 0..2Q, goes into its lane.

All arithmetic is float64, element by element, in one fixed order: a whole number below 2^53 is exact,
and every machine gets the same bits.  Work goes through scratch arrays of BLOCK coordinates, which stay
in the cache.
"""

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate
from unisono.tensors import check_finite

from .lanes import ALIGNMENT, Words, pack, per_word, unpack, word_count
from .spec import Spec, SpecPart

BLOCK = 32 * ALIGNMENT


class Encoder:
    """Encodes one part with its own scratch memory (0.5 MiB); one thread at a time.

    `weight` multiplies every coordinate first: the client's `client_weight` for a weighted part, and what
    `clipped_weight` makes of it for a rotated one.
    """

    def __init__(self, spec: Spec, part: SpecPart, weight: float = 1.0) -> None:
        if not 0 < weight <= 1:
            raise BadUpdate(f"weight {weight} is not in (0, 1]")
        self._what = f'part "{part.name}" of the update'
        self._width, self._levels = spec.lanes, float(spec.levels)
        self._factor = np.float64(weight) * (self._levels / spec.reach(part))
        self._scaled, self._random = np.empty(BLOCK), np.empty(BLOCK)

    def encode(self, x: NDArray[np.float32], u: NDArray[np.uint32], out: Words) -> None:
        """Write the lanes of `x` into `out`, using one random word of `u` a coordinate.

        `x` starts where a word does (any multiple of ALIGNMENT is fine); `out` has word_count(x.size)
        words; lanes after the last coordinate become 0.  Raises BadUpdate if `x` is not finite.
        """
        if u.size != x.size or out.size != word_count(x.size, self._width):
            raise ValueError(f"{x.size} coordinates, {u.size} random words, {out.size} words of output")
        step = BLOCK // per_word(self._width)
        for block, start in enumerate(range(0, x.size, BLOCK)):
            part = slice(start, start + BLOCK)
            levels = self._quantised(x[part], u[part])
            pack(levels, self._width, out[block * step : (block + 1) * step])

    def _quantised(self, x: NDArray[np.float32], u: NDArray[np.uint32]) -> NDArray[np.float64]:
        check_finite(x, self._what)
        scaled, random = self._scaled[: x.size], self._random[: x.size]
        np.copyto(scaled, x)
        np.multiply(scaled, self._factor, out=scaled)
        np.copyto(random, u)
        np.multiply(random, 2.0**-32, out=random)
        np.add(scaled, random, out=scaled)
        np.floor(scaled, out=scaled)
        np.clip(scaled, -self._levels, self._levels, out=scaled)  # whole numbers already
        np.add(scaled, self._levels, out=scaled)
        return scaled


class Decoder:
    """Decodes sums of one part with its own scratch memory; one thread at a time.

    The result is divided by `divisor`: 1 for the sum itself, the survivors or their weight for a mean.
    """

    def __init__(self, spec: Spec, part: SpecPart, survivors: int, divisor: float = 1.0) -> None:
        _check_survivors(spec, survivors)
        self._width = spec.lanes
        self._zero = float(survivors * spec.levels)
        self._factor = spec.reach(part) / spec.levels / divisor
        self._lanes = np.empty(BLOCK)

    def decode(self, sums: Words, out: NDArray[np.float32] | NDArray[np.float64]) -> None:
        """Write out.size coordinates from the words of a sum into `out`."""
        if sums.size != word_count(out.size, self._width):
            raise ValueError(f"{sums.size} words for {out.size} coordinates")
        step = BLOCK // per_word(self._width)
        for block, start in enumerate(range(0, out.size, BLOCK)):
            target = out[start : start + BLOCK]
            lanes = self._lanes[: target.size]
            unpack(sums[block * step : (block + 1) * step], self._width, lanes)
            np.subtract(lanes, self._zero, out=lanes)
            np.multiply(lanes, self._factor, out=lanes)
            np.copyto(target, lanes, casting="same_kind")


def encode_part(
    spec: Spec, part: SpecPart, x: NDArray[np.float32], u: NDArray[np.uint32], out: Words
) -> None:
    """Encode one chunk; as Encoder.encode, for a chunk that is already weighted."""
    Encoder(spec, part).encode(x, u, out)


def decode_part(
    spec: Spec,
    part: SpecPart,
    sums: Words,
    survivors: int,
    out: NDArray[np.float32] | NDArray[np.float64],
) -> None:
    """Decode one chunk of the sum of `survivors` clients; as Decoder.decode."""
    Decoder(spec, part, survivors).decode(sums, out)


def check_lanes(spec: Spec, part: SpecPart, sums: Words, survivors: int, count: int | None = None) -> None:
    """Raise BadUpdate if `sums` cannot be the sum of `survivors` clients: a cheap alarm for wrong masks.

    Each lane is at most 2 * survivors * Q; lanes beyond `count` (by default: none) and the unused top
    bits are 0.
    """
    _check_survivors(spec, survivors)
    width, lanes = spec.lanes, per_word(spec.lanes)
    count = sums.size * lanes if count is None else count
    most, seen = 2 * survivors * spec.levels, 0
    if width in (16, 32):
        seen = int(sums.view(f"<u{width // 8}").max(initial=0))
    else:
        mask = np.uint64((1 << width) - 1)
        seen = max(int(((sums >> np.uint64(k * width)) & mask).max(initial=0)) for k in range(lanes))
    spare = int(sums.max(initial=0)) >> (lanes * width)
    last = int(sums[-1]) >> width * (count - (sums.size - 1) * lanes) if sums.size else 0
    if seen > most or spare or last:
        raise BadUpdate(
            f'part "{part.name}": a lane of the sum is {seen}; {survivors} clients reach {most} at most '
            f"(unused bits: {spare}, unused lanes: {last}); an upload was altered or a mask is wrong"
        )


def _check_survivors(spec: Spec, survivors: int) -> None:
    if not 1 <= survivors <= spec.clients:
        raise BadUpdate(f"{survivors} survivors under a spec for {spec.clients} clients")
