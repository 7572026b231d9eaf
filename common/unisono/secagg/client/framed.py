"""What all states under a context have in common: they know it, and never take a second one."""

from collections.abc import Callable
from dataclasses import dataclass

from unisono.base.ids import Digest
from unisono.crypto.entropy import Entropy
from unisono.crypto.keys import SigningKey
from unisono.secagg.shared.messages import Closing, Deal
from unisono.secagg.shared.roster import Roster
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.statements import Members

from .abandon import Abandoned
from .refusals import OtherContext, SecondContext, SecondShareSet
from .releases import Release
from .state import Frame, Move, State


@dataclass(frozen=True)
class Framed(State):
    """A state from leg 1 on.  What it was told before it takes again, anything else not."""

    frame: Frame

    def receive_roster(self, roster: Roster, spec_for: Callable[[int], Spec]) -> Move[State]:
        """Row 15."""
        if roster != self.frame.roster:
            raise SecondContext("a second roster for the same keys")
        return Move(self)

    def share(self, model: Digest, key: SigningKey, entropy: Entropy) -> Move[State]:
        """Row 15."""
        self._same_model(model)
        raise self._wrong("sharing again")

    def abandon(self, request: Closing, key: SigningKey) -> Move[State]:
        """Row 27: whoever has not revealed may."""
        if request.model != self.frame.model:
            raise OtherContext("asked to abandon an attempt on another model than this client's")
        return Move(*Abandoned.sign(self.frame, key, self.release))

    @property
    def release(self) -> Release | None:
        """What this attempt counts as from the upload signature on."""
        return None

    def _same_model(self, model: Digest) -> None:
        if model != self.frame.model:
            raise SecondContext("a second model for the same keys")


@dataclass(frozen=True)
class Joint(Framed):
    """A state that knows U1."""

    u1: Members

    def receive_deal(self, deal: Deal) -> Move[State]:
        """Row 17: only ever one U1."""
        if deal.u1 != self.u1:
            raise SecondShareSet(f"shown {len(deal.u1)} who shared, and {len(self.u1)} or others before")
        return Move(self)
