"""Abandoning: a client signs that it will never open an attempt, and forgets what it would need to.

The state itself is the flag: once it is saved nothing that could agree or reveal exists any more.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from unisono.crypto.keys import SigningKey
from unisono.secagg.shared.messages import Abandon, Closing
from unisono.secagg.shared.roster import Attempt
from unisono.secagg.shared.statements import abandon

from .refusals import AttemptAbandoned, OtherContext
from .releases import Release
from .state import Frame, Move, State


@dataclass(frozen=True, slots=True)
class Abandoned(State, kind="client/abandoned"):
    """Final.  `release` is there if the upload was signed: one signature alone closes nothing."""

    phase: ClassVar[str] = "abandoned"
    attempt: Attempt
    model: str
    ctx: bytes
    message: Abandon
    release: Release | None

    @classmethod
    def sign(cls, frame: Frame, key: SigningKey, release: Release | None) -> tuple[Self, Abandon]:
        """Return the state and its statement."""
        message = Abandon(abandon(frame.ctx).sign(key))
        return cls(frame.setup.attempt, frame.model, frame.ctx, message, release), message

    def abandon(self, request: Closing, key: SigningKey) -> Move["Abandoned"]:
        if request.model != self.model:
            raise OtherContext("asked to abandon an attempt on another model than this client's")
        return Move(self, self.message)

    def _wrong(self, event: str) -> Exception:
        number, round_ = self.attempt.attempt, self.attempt.round
        return AttemptAbandoned(
            f"this site abandoned attempt {number} of round {round_}; {event} comes too late"
        )
