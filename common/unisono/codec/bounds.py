"""The clip bound of the next round, as a function of public values only.

No client's own data decides it: the first bound follows the model, later ones the previous sum, which
everybody may know anyway (reference 4.3, without differential privacy).  Client and coordinator must
come to the same bits, and a norm is a long sum that two machines may round differently in its last
place: so bounds are rounded up to 8 significant bits.
"""

import math

from unisono.base.errors import BadUpdate

SMALLEST = 1e-10  # a coordinate: far below the last place of any float32 weight that matters


def first_bound(model_norm: float) -> float:
    """Return the bound of round 1: the norm of the model; 1 for a model of zeros.  Raises BadUpdate."""
    return _rounded_up(_checked(model_norm)) or 1.0


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
    return max(min(wanted, 2 * bound), _rounded_up(SMALLEST * math.sqrt(max(dimension, 1))))


def _checked(norm: float) -> float:
    if not (math.isfinite(norm) and norm >= 0):
        raise BadUpdate(f"a norm of {norm}")
    return norm


def _rounded_up(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.ceil(mantissa * 256), exponent - 8)
