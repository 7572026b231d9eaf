"""The clip bound of the next round, as a function of public values only.

No client's own data decides it: the first bound follows the model, later ones the previous sum, which
everybody may know anyway (reference 4.3, without differential privacy).  Client and coordinator must
come to the same bits, and a norm is a long sum that two machines may round differently in its last
place: so bounds are rounded up to 8 significant bits.
"""

import math

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate

from .lanes import CHUNK
from .spec import LARGEST_BOUND, SMALLEST_BOUND

SMALLEST = 1e-10  # a coordinate: far below the last place of any float32 weight that matters


def first_bound(model_norm: float) -> float:
    """Return the bound of round 1: the norm of the model; 1 for a model of (almost) zeros.

    Raises BadUpdate for a norm that no spec may have: no round could ever be laid out.
    """
    bound = _rounded_up(_checked(model_norm))
    if bound > LARGEST_BOUND:
        raise BadUpdate(f"a model of norm {model_norm:.3g}; at most {LARGEST_BOUND:g} can be trained")
    return bound if bound >= SMALLEST_BOUND else 1.0


def next_bound(bound: float, mean_norm: float, survivors: int, dimension: int) -> float:
    """Return min(2 sqrt(n) ||mean||, 2 bound), never 0.

    `mean_norm` is the norm of the sum of what was *sent* (weights included) divided by the survivors.
    Independent updates are sqrt(n) times longer than their mean, hence the root; the 2 is head room.  It
    shrinks freely, grows at most twofold a round, and stays after a round without any change, which says
    nothing about the next.
    """
    wanted = _rounded_up(2 * math.sqrt(survivors) * _checked(mean_norm))
    if not wanted:
        return bound
    return max(min(wanted, 2 * bound, LARGEST_BOUND), _rounded_up(SMALLEST * math.sqrt(max(dimension, 1))))


def norm(vector: NDArray[np.float32]) -> float:
    """Return the length (L2) of a vector, in float64, chunk by chunk; infinite or NaN if a coordinate is."""
    squares = np.empty(min(CHUNK, vector.size))
    total = 0.0
    with np.errstate(invalid="ignore"):
        for start in range(0, vector.size, CHUNK):
            part = vector[start : start + CHUNK]
            found = squares[: part.size]
            np.multiply(part, part, out=found, dtype=np.float64)
            total += float(found.sum())
    return math.sqrt(total)


def clipped_weight(weight: float, length: float, bound: float) -> float:
    """Return the largest weight, `weight` at most, with which a vector of this length stays within `bound`.

    This is the clip of a rotated part: no coordinate is touched, the encoder multiplies anyway.  Rounded
    down to 24 bits, so that machines whose norms differ in the last place clip alike.  Raises BadUpdate.
    """
    if weight * _checked(length) <= bound:
        return weight
    mantissa, exponent = math.frexp(bound / length)
    return math.ldexp(math.floor(mantissa * 2**24), exponent - 24)


def _checked(norm: float) -> float:
    if not (math.isfinite(norm) and norm >= 0):
        raise BadUpdate(f"a norm of {norm}")
    return norm


def _rounded_up(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.ceil(mantissa * 256), exponent - 8)
