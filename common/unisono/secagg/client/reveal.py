"""Leg 4: one answer per context, of kinds that follow from the set that this client signed."""

from dataclasses import dataclass
from typing import ClassVar

from unisono.crypto.keys import SigningKey
from unisono.secagg.shared.certificates import signers
from unisono.secagg.shared.messages import Agree, Answer, Closing, Opened, Quorum, Survivors
from unisono.secagg.shared.statements import Members, Tally, agree

from .framed import Joint
from .holding import Held
from .refusals import AlreadyRevealed, DeadAndAlive, NoQuorum, SecondSurvivorSet
from .releases import Release
from .state import Frame, Move, State


@dataclass(frozen=True)
class Certifying(Joint):
    """A state that knows U2, and takes no other."""

    u2: Tally
    vector: bytes
    message: Agree

    @property
    def release(self) -> Release:
        return Release.of(self.frame, self.u1, self.vector)

    @property
    def survivors(self) -> Members:
        return tuple(number for number, _ in self.u2)

    @property
    def dropped(self) -> Members:
        alive = set(self.survivors)
        return tuple(number for number in self.u1 if number not in alive)

    def receive_survivors(self, survivors: Survivors, key: SigningKey) -> Move[State]:
        """Row 23."""
        if survivors.tally != self.u2:
            raise SecondSurvivorSet(
                f"shown a set of {len(survivors.members)} survivors after this client signed one of "
                f"{len(self.u2)}: it signs one only"
            )
        return Move(self, self.message)


@dataclass(frozen=True)
class Agreed(Certifying, kind="client/agreed"):
    """(ctx, U2) is on the disk; the signature may leave."""

    phase: ClassVar[str] = "agreed"
    held: tuple[Held, ...]

    def receive_quorum(self, quorum: Quorum) -> Move["Revealed"]:
        check_quorum(self.frame, self.u1, self.u2, quorum)
        check_lists(quorum)
        if (quorum.survivors, quorum.dropped) != (self.survivors, self.dropped):
            raise DeadAndAlive("asked for other kinds of shares than the set that this client signed allows")
        survivors = self.survivors
        answer = Answer(
            tuple(Opened(share.owner, share.b) for share in self.held if share.owner in survivors),
            tuple(Opened(share.owner, share.v) for share in self.held if share.owner not in survivors),
        )
        return Move(Revealed(self.frame, self.u1, self.u2, self.vector, self.message, answer), answer)


@dataclass(frozen=True)
class Revealed(Certifying, kind="client/revealed"):
    """The answer is on the disk; no other will ever be given, and the shares of the other kinds are gone."""

    phase: ClassVar[str] = "revealed"
    answer: Answer

    def receive_quorum(self, quorum: Quorum) -> Move["Revealed"]:
        """Return the same bytes, whoever asks again for the same."""
        check_quorum(self.frame, self.u1, self.u2, quorum)
        check_lists(quorum)
        if (quorum.survivors, quorum.dropped) != (self.survivors, self.dropped):
            raise AlreadyRevealed("asked for other shares than those that this client has revealed")
        return Move(self, self.answer)

    def abandon(self, request: Closing, key: SigningKey) -> Move[State]:
        """Row 27."""
        raise AlreadyRevealed("asked to abandon an attempt whose shares this client has revealed")


def check_quorum(frame: Frame, u1: Members, u2: Tally, quorum: Quorum) -> None:
    """Row 24: members of U2 only, each counted once, over this very set."""
    members = tuple(number for number, _ in u2)
    needed = frame.spec.terms.threshold
    found = signers(agree(frame.ctx, u1, u2), quorum.signatures, frame.roster.identity, members, needed)
    if found < needed:
        raise NoQuorum(f"{found} of {len(members)} survivors agreed on the set, {needed} needed")


def check_lists(quorum: Quorum) -> None:
    """Row 24: nobody is named twice, as dead and alive least of all."""
    named = (*quorum.survivors, *quorum.dropped)
    if len(set(named)) != len(named):
        raise DeadAndAlive("asked for two shares of one client: it would be opened alone")
