"""What a plan may ask of `secagg`: cohorts, survivors and colluding clients whose sums hide an update.

The client and the coordinator check the numbers of every attempt again (reference 1.4, rows 7 and 12), then
with the roster.  Here stands what no roster could make right.
"""

from collections.abc import Iterator

from .mistakes import Mistake
from .schema import Plan
from .thresholds import FEWEST, MOST, default_colluding, smallest

_WAY_OUT = 'or use [protection] mode = "sealed" if every site\'s policy allows it'

_PAIR = "the sum of two tells each the other's update"


def conflicts_of_sums(plan: Plan) -> Iterator[Mistake]:
    """Yield the contradictions of a plan with mode = "secagg"."""
    yield from _size(plan)
    yield from _colluding(plan)
    yield from _survivors(plan)
    if plan.cohort.roster == "open":
        yield Mistake(
            ("cohort", "roster"),
            "[cohort] roster",
            '= "open" does not work with protection "secagg": a site pins the roster when the run starts, '
            "and it may shrink, never grow",
            f'use roster = "frozen": who joins later takes part in the next run; {_WAY_OUT}',
        )


def least(plan: Plan) -> int:
    """Return the fewest updates that any sum of this plan may hold, whatever its roster turns out to be."""
    size, colluding = plan.cohort.size, plan.protection.max_colluding
    if size and colluding < 0:
        colluding = default_colluding(size)  # at least: the run may have more sites than the cohort
    clients = max(size, FEWEST, colluding + 2)
    return max(smallest(clients, max(colluding, 0)), plan.cohort.min_survivors)


def _size(plan: Plan) -> Iterator[Mistake]:
    size = plan.cohort.size
    where = ("cohort", "size"), "[cohort] size"
    if 0 < size < FEWEST:
        told = "the sum of one is its update" if size == 1 else _PAIR
        yield Mistake(
            *where, f'= {size} cannot have protection "secagg": {told}', f"use size = 3, {_WAY_OUT}"
        )
    if size > MOST:
        yield Mistake(
            *where,
            f'= {size} is more than protection "secagg" can serve, which is {MOST}: every client shares keys '
            "with every other",
            f"use at most {MOST}, {_WAY_OUT}",
        )


def _colluding(plan: Plan) -> Iterator[Mistake]:
    size, colluding = plan.cohort.size, plan.protection.max_colluding
    if size >= FEWEST and colluding > size - 2:
        yield Mistake(
            ("protection", "max_colluding"),
            "[protection] max_colluding",
            f"= {colluding} of size = {size}: beside those who conspire there must be two others, whose "
            "updates hide each other",
            f"use at most {size - 2}, or a larger [cohort] size",
        )


def _survivors(plan: Plan) -> Iterator[Mistake]:
    size, survivors, colluding = plan.cohort.size, plan.cohort.min_survivors, plan.protection.max_colluding
    where = ("cohort", "min_survivors"), "[cohort] min_survivors"
    if survivors > MOST:
        yield Mistake(*where, f'= {survivors} is more than protection "secagg" can serve, which is {MOST}')
    if not survivors or 0 < size < FEWEST or (size and colluding > size - 2) or survivors >= least(plan):
        return
    yield Mistake(
        *where,
        f"= {survivors} is too few: {_why(plan)}",
        f"use at least {least(plan)}, or leave it out: the least that is safe is taken",
    )


def _why(plan: Plan) -> str:
    """Say what asks for more survivors than the plan names."""
    size, colluding = plan.cohort.size, plan.protection.max_colluding
    if plan.cohort.min_survivors < FEWEST:
        return _PAIR
    if not size:
        return f"with max_colluding = {colluding}, a sum of fewer tells those who conspire a single update"
    c = max(colluding, 0) if colluding >= 0 else default_colluding(size)
    return (
        f"of {size} clients, {c} of whom may conspire with the coordinator, {least(plan)} must agree on a sum"
    )
