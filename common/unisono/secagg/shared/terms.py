"""The numbers of an attempt: how many shares open a secret, how many signatures certify a set.

n is the number of entries of the roster of leg 0, not of those who shared; c is how many of them may conspire
with the coordinator, a number of the plan.  All follows from 2t > n + c (reference 1.1, "Parameters"; held by
brute force in the tests): two quorums of t share more than c clients, so an honest one would have to sign two
sets; and t shares of either kind for the same client would need an honest one to give both.
"""

from dataclasses import dataclass
from typing import Self

from .encoding import Coded

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


@dataclass(frozen=True, slots=True)
class Terms(Coded):
    """n, c, t and m, as one side states them; the other computes them again (`problem`)."""

    clients: int
    colluding: int
    threshold: int
    minimum: int

    @classmethod
    def of(cls, clients: int, colluding: int, minimum: int = 0) -> Self:
        """Return the terms for these numbers; `minimum` is the plan's own and may be too low."""
        t = threshold(clients, colluding)
        return cls(clients, colluding, t, max(minimum, smallest(clients, colluding)))

    @property
    def closing(self) -> int:
        """Signatures of an abandon certificate."""
        return closing(self.clients, self.colluding)

    def problem(self, max_colluding: int = 0, min_cohort: int = 0) -> str:
        """Say in words which number is too weak, for a site with this policy; "" if none is."""
        n, c, t, m = self.clients, self.colluding, self.threshold, self.minimum
        if c < max_colluding:
            return f"withstands {c} colluding clients; policy max_colluding = {max_colluding}"
        if c > n - 2:
            return f"c = {c} colluding clients of n = {n}; at most {n - 2} can be withstood"
        if t != threshold(n, c):
            return f"threshold t = {t}; n = {n} and c = {c} ask for {threshold(n, c)}"
        if m < smallest(n, c, min_cohort):
            return f"minimum survivors m = {m}; at least {smallest(n, c, min_cohort)} are needed"
        return ""
