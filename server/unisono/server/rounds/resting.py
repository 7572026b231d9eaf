"""Whom a round under secure aggregation goes on without, because their own hours have not come.

With `wait = "quorum"` nobody is waited for longer than `grace_seconds` once enough have uploaded.  Before
that, in the legs in which keys and shares are made, the protocol needs everybody's word: a site that may not
fetch the model before the evening would keep all others from uploading until then.  Who is only slow is
waited for: the others train meanwhile.

A first model is asked of another site: all have made the same.
"""

from unisono.base.ids import ClientName
from unisono.plan import Plan
from unisono.secagg.shared.laying import terms_of
from unisono.secagg.shared.terms import FEWEST

from .aside import protected
from .phases import Initialising, InRound, Run, Securing


def spared(plan: Plan, run: Run, resting: frozenset[ClientName]) -> frozenset[ClientName]:
    """Return those of the resting whom the round need not wait for: none, if it is too small without them."""
    if plan.rounds.wait != "quorum":
        return frozenset()
    match run.stage:
        case Initialising(source, _, others):
            free = any(client not in run.away | resting for client, _ in others)
            return resting & {source} if free else frozenset()
        case InRound(phase=Securing(leg="advertising" | "sharing") as phase):
            late = resting & phase.waiting
            left = len(phase.cohort) - len(phase.dropped) - len(late)
        case _:
            return frozenset()
    frozen = protected(run).book.frozen
    terms = terms_of(plan, max(left, FEWEST), len(run.roster)) if frozen is None else frozen.spec.terms
    return late if left >= max(terms.minimum, FEWEST) else frozenset()
