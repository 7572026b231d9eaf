"""Leg 2: one vector under one mask, and a signature that makes it a release.

The vector itself never comes here: only its digest before it is masked (stored, so that a second one is
refused) and the digest of the masked bytes (signed).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from unisono.crypto.keys import SigningKey
from unisono.secagg.shared.encoding import exactly
from unisono.secagg.shared.keys import MaskStream
from unisono.secagg.shared.messages import Survivors, Upload
from unisono.secagg.shared.statements import upload

from .agree import Uploaded
from .framed import Joint
from .holding import Held
from .refusals import NotASurvivor, UpdateOutOfRange, VectorChanged
from .state import Move


@dataclass(frozen=True)
class Ready(Joint, kind="client/ready"):
    """U1 and the shares of its members are stored; the update is awaited."""

    phase: ClassVar[str] = "ready"
    held: tuple[Held, ...]
    masks: tuple[MaskStream, ...] = field(repr=False)  # for `Committed.streams`, once a vector is stored

    def commit(self, vector: bytes, length: int) -> Move["Committed"]:
        """Row 20."""
        exactly("the digest of a vector", vector, 32)
        if length != self.frame.spec.length:
            raise UpdateOutOfRange(f"the vector has {length} bytes; the spec has {self.frame.spec.length}")
        only = self.frame.setup.only
        if only is not None and only.vector != vector:
            raise VectorChanged(
                "an open attempt may only be repeated with its stored vector; this is another"
            )
        return Move(Committed(self.frame, self.u1, self.held, self.masks, vector))

    def receive_survivors(self, survivors: Survivors, key: SigningKey) -> Move[Uploaded]:
        """Row 21."""
        raise NotASurvivor("shown a survivor set before this client's own upload was complete")


@dataclass(frozen=True)
class Committed(Joint, kind="client/committed"):
    """The vector's digest is stored: its masked bytes may be sent, chunk by chunk, any chunk again."""

    phase: ClassVar[str] = "committed"
    held: tuple[Held, ...]
    masks: tuple[MaskStream, ...] = field(repr=False)
    vector: bytes

    @property
    def streams(self) -> tuple[MaskStream, ...]:
        """What to apply to the vector; from byte 0 of the vector on, little-endian words."""
        return self.masks

    def commit(self, vector: bytes, length: int) -> Move["Committed"]:
        """Row 20, after a restart: the same vector, or none."""
        if vector != self.vector or length != self.frame.spec.length:
            raise VectorChanged("another vector than the one stored for this attempt: it is not sent")
        return Move(self)

    def uploaded(self, digest: bytes, key: SigningKey) -> Move[Uploaded]:
        exactly("the digest of an upload", digest, 32)
        frame, length = self.frame, self.frame.spec.length
        signature = upload(frame.ctx, self.u1, length, digest).sign(key)
        message = Upload(length, digest, signature)
        return Move(Uploaded(frame, self.u1, self.held, self.masks, self.vector, message), message)

    def receive_survivors(self, survivors: Survivors, key: SigningKey) -> Move[Uploaded]:
        """Row 21."""
        raise NotASurvivor("shown a survivor set before this client's own upload was complete")
