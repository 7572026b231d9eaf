"""Row 13: which spec a roster must have, given the bounds that the coordinator proposes in it.

Bounds are public values that follow a rule; this site holds the proposal to the rule and computes everything
else from the plan.  A site that joined late knows no earlier bound: it takes the rule's start, the norm of
the present model, as if it had been the first.
"""

from collections.abc import Callable

from unisono.base.errors import BadMessage, BadUpdate
from unisono.client.session import Secure
from unisono.codec import first_bound
from unisono.codec.spec import LARGEST_BOUND, SMALLEST_BOUND
from unisono.secagg.client.checks import check_bounds
from unisono.secagg.client.refusals import BadModel, SpecMismatch
from unisono.secagg.shared import laying
from unisono.secagg.shared.roster import Roster
from unisono.secagg.shared.spec import Spec

from .agreements import Agreement, spec_of
from .attempts import Attempts
from .examining import Examiner

LIMITS = SMALLEST_BOUND, LARGEST_BOUND  # a plan has none of its own


class Bounding:
    """Computes the spec of one attempt."""

    def __init__(self, agreement: Agreement, store: Attempts, examiner: Examiner, order: Secure) -> None:
        self._agreement, self._store, self._examiner, self._order = agreement, store, examiner, order

    def of(self, roster: Roster) -> Callable[[int], Spec]:
        """Return what `receive_roster` asks for."""
        return lambda clients: self._spec(self.proposed(roster), clients)

    def proposed(self, roster: Roster) -> tuple[float, ...]:
        """Return the bounds in a roster's spec.  Raises SpecMismatch."""
        try:
            return tuple(part.bound for part in spec_of(roster.spec.codec).parts)
        except BadMessage as wrong:
            raise SpecMismatch(f"the spec cannot be read: {wrong}") from None

    def _spec(self, bounds: tuple[float, ...], clients: int) -> Spec:
        order, agreed = self._order, self._agreement
        if order.what == "train":
            check_bounds(bounds, *self._last(len(bounds)), LIMITS)
        sites = len(self._store.run(order.attempt.run).pins)
        try:
            return laying.spec_of(
                agreed.plan, agreed.manifest, order.what, order.attempt.round, clients, sites, bounds
            )
        except (BadMessage, ValueError) as wrong:
            raise SpecMismatch(
                f"there is no spec for {clients} clients and {len(bounds)} bounds: {wrong}"
            ) from None

    def _last(self, parts: int) -> tuple[tuple[float, ...], int]:
        """Return the bounds known last, and the rounds since."""
        run, round_ = self._store.run(self._order.attempt.run), self._order.attempt.round
        if run.bounds:
            return run.bounds, round_ - run.bounds_round
        try:
            length = self._examiner.norm(self._order.model, self._agreement.manifest)
            return (first_bound(length),) * parts, round_ - 1
        except BadUpdate as wrong:
            raise BadModel(str(wrong)) from None
