"""The numbers of secure aggregation: how many shares open a secret, how many signatures certify a set.

n is the number of entries of the roster of leg 0, not of those who shared; c is how many of them may conspire
with the coordinator, a number of the plan.  All follows from 2t > n + c (reference 1.1, "Parameters"; held by
brute force in the tests): two quorums of t share more than c clients, so an honest one would have to sign two
sets; and t shares of either kind for the same client would need an honest one to give both.

They stand here, below the protocol, because a plan whose numbers cannot work is refused when it is read.
"""

FEWEST, MOST = 3, 100  # clients of a roster; with two the sum tells each the other's update


def default_colluding(clients: int) -> int:
    """Return c where the plan leaves it open and the cohort is the whole roster: just below a third."""
    return -(-clients // 3) - 1


def threshold(clients: int, colluding: int) -> int:
    """Return t: shares that open a secret, and signatures that certify a survivor set (q)."""
    return (clients + colluding) // 2 + 1


def closing(clients: int, colluding: int) -> int:
    """Return how many signatures close an attempt for good.

    At least this number less c are honest and will never reveal, so at most n - closing + c = t - 1 shares
    can ever meet.
    """
    return clients + colluding - threshold(clients, colluding) + 1


def smallest(clients: int, colluding: int, min_cohort: int = 0) -> int:
    """Return the fewest survivors: with c + 1 the sum would tell the colluders the one honest update."""
    return max(threshold(clients, colluding), 3, colluding + 2, min_cohort)
