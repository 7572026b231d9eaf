"""Terms and spec of an attempt from its plan: the coordinator proposes, every client computes again."""

from typing import Literal

from unisono.plan import Plan
from unisono.plan.layout import layout_of
from unisono.tensors import Manifest

from .spec import Spec
from .terms import Terms, default_colluding


def terms_of(plan: Plan, clients: int, sites: int) -> Terms:
    """Return n, c, t and m for a roster of `clients` out of the run's `sites`.

    Where the plan leaves c open it follows from the sites, not from the roster of an attempt: the coordinator
    chooses that, and a number of colluding sites does not shrink because others are away.
    """
    colluding = plan.protection.max_colluding
    return Terms.of(
        clients, default_colluding(sites) if colluding < 0 else colluding, plan.cohort.min_survivors
    )


def spec_of(  # noqa: PLR0913, PLR0917 - all that a spec follows from
    plan: Plan,
    manifest: Manifest,
    what: Literal["train", "evaluate"],
    round_: int,
    clients: int,
    sites: int,
    bounds: tuple[float, ...],
) -> Spec:
    """Return the spec of a round.  Nothing of the attempt is in it.  Raises BadMessage."""
    layout = layout_of(plan, manifest, what, round_, clients, bounds)
    return Spec.of(layout, terms_of(plan, clients, sites))
