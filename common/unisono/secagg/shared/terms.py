"""The numbers of an attempt as one side states them and the other computes them again.

The formulas, and why they hold, are in `plan.thresholds`: a plan that contradicts them is refused when it is
read.
"""

from dataclasses import dataclass
from typing import Self

from unisono.plan.thresholds import FEWEST, MOST, closing, default_colluding, smallest, threshold

from .encoding import Coded

__all__ = ["FEWEST", "MOST", "Terms", "closing", "default_colluding", "smallest", "threshold"]


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
