"""Leg 3: sign one survivor set, whose members all signed what they sent under this context and U1."""

from dataclasses import dataclass, field
from typing import ClassVar

from unisono.crypto.keys import SigningKey
from unisono.secagg.shared.keys import MaskStream
from unisono.secagg.shared.messages import Agree, Deal, Survivors, Upload
from unisono.secagg.shared.statements import Members, agree, upload

from .framed import Joint
from .holding import Held
from .refusals import (
    AlreadyReleased,
    NotASurvivor,
    SecondShareSet,
    SurvivorNotSigned,
    TooFewSurvivors,
    VectorChanged,
)
from .releases import Release
from .reveal import Agreed
from .state import Frame, Move, State


@dataclass(frozen=True)
class Uploaded(Joint, kind="client/uploaded"):
    """The release flag: this state is on the disk before the upload signature leaves."""

    phase: ClassVar[str] = "uploaded"
    held: tuple[Held, ...]
    masks: tuple[MaskStream, ...] = field(
        repr=False
    )  # until the set is frozen, the bytes may have to be resent
    vector: bytes
    message: Upload

    @property
    def streams(self) -> tuple[MaskStream, ...]:
        """As `Committed.streams`."""
        return self.masks

    @property
    def release(self) -> Release:
        return Release.of(self.frame, self.u1, self.vector)

    def receive_deal(self, deal: Deal) -> Move[State]:
        """Row 17; answer a coordinator that lost the statement."""
        if deal.u1 != self.u1:
            raise SecondShareSet(
                "another set of clients who shared than the one that the upload is signed for"
            )
        return Move(self, self.message)

    def commit(self, vector: bytes, length: int) -> Move["Uploaded"]:
        """Row 20: the same bytes again, or none."""
        if vector != self.vector or length != self.frame.spec.length:
            raise VectorChanged("another vector than the one stored for this attempt: it is not sent")
        return Move(self, self.message)

    def uploaded(self, digest: bytes, key: SigningKey) -> Move["Uploaded"]:
        if digest != self.message.digest:
            raise VectorChanged("other masked bytes than those that this client signed")
        return Move(self, self.message)

    def receive_survivors(self, survivors: Survivors, key: SigningKey) -> Move[Agreed]:
        check_survivors(self.frame, self.u1, self.message.digest, survivors)
        u2 = survivors.tally
        message = Agree(agree(self.frame.ctx, self.u1, u2).sign(key))
        return Move(Agreed(self.frame, self.u1, u2, self.vector, message, self.held), message)


def check_survivors(frame: Frame, u1: Members, own: bytes, survivors: Survivors) -> None:
    """Rows 21 and 22, and the same sum where an open release allows nothing else."""
    numbers = tuple(member.number for member in survivors.members)
    if numbers != tuple(sorted(set(numbers))) or not set(numbers) <= set(u1):
        raise NotASurvivor(
            "the survivor set is not sorted, names somebody twice, or names one who never shared"
        )
    if (frame.me, own) not in survivors.tally:
        raise NotASurvivor("the survivor set does not hold this client's own upload")
    if len(numbers) < frame.spec.terms.minimum:
        raise TooFewSurvivors(f"{len(numbers)} survivors; at least {frame.spec.terms.minimum} are needed")
    for member in survivors.members:
        statement = upload(frame.ctx, u1, frame.spec.length, member.digest)
        if not statement.signed(frame.roster.identity(member.number), member.signature):
            name = frame.roster.name(member.number)
            raise SurvivorNotSigned(f'"{name}" did not sign this upload under the same context and U1', name)
    only = frame.setup.only
    if only is not None and tuple(sorted(frame.roster.names(numbers))) != only.u2:
        raise AlreadyReleased(
            f"this site's open release is the sum of {', '.join(only.u2)}; this is another set"
        )
