"""How long to wait before the next try."""

FIRST, GROWTH = 0.2, 1.6  # seconds, factor; 1.6 is gRPC's own
LONGEST = 30.0


def delay(tries: int, roll: float, *, longest: float = LONGEST, at_least: float = 0.0) -> float:
    """Return seconds to wait after `tries` earlier failures.

    Exponential with "equal jitter": half of it is certain, half is drawn (`roll` in [0, 1)), so that clients
    which lost one coordinator together do not come back together.  What the coordinator asked for is a lower
    bound.
    """
    ceiling = min(longest, FIRST * GROWTH ** min(tries, 64))
    return max(ceiling * (0.5 + roll / 2), at_least * (1 + roll / 4))
