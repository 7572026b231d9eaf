"""Which lane width for how many clients, how far a coordinate reaches, and what error to expect.

A rotated coordinate looks normal, of standard deviation ||x|| / sqrt(D), so the bound C of the length gives
one for every coordinate: KAPPA * C / sqrt(D).  The rule of `bounds` makes C about twice the length of a
typical update, which is head room of 2 KAPPA standard deviations: five with 12-bit lanes, where steps are
coarse and precious, eight with wider ones.  What lies beyond is clamped.
"""

from .lanes import per_word

KAPPA = {12: 2.5, 16: 4.0, 21: 4.0}  # the lane widths that rotated vectors may have
FIRST = 21  # the first bound is the model's norm, far above any update's: only fine steps will do


def levels_of(width: int, clients: int) -> int:
    """Return Q, the largest with 2nQ + 1 <= 2^w: see `Spec.levels`."""
    return ((1 << width) - 1) // (2 * clients)


def choose_lanes(clients: int, *, first: bool) -> int:
    """Return the width for `[codec] lanes = "auto"`; `first`: no sum has told a bound yet.

    The narrowest with an error below 3e-4 (reference 5.1: 12 bits to 16 clients, 16 to 100).
    """
    if first or clients > 100:
        return FIRST
    return 12 if clients <= 16 else 16


def expected_error(width: int, clients: int) -> float:
    """Return ||error||^2 / ||mean||^2 of the mean of rotated updates once the bound follows the sum.

    A rounding error has variance 1/6 of a step squared on average; C = 2 sqrt(n) ||mean|| turns that into
    4 KAPPA^2 / (6 Q^2), for updates that agree and for independent ones alike (reference 4.3).
    """
    q = levels_of(width, clients)
    return 4 * KAPPA[width] ** 2 / (6 * q * q) if q else float("inf")


def bytes_per_parameter(width: int) -> float:
    """Return what one coordinate takes in an upload."""
    return 8 / per_word(width)
