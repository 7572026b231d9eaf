"""What is signed: sign(L, ...) = Ed25519 over enc("unisono/secagg/1", L, ...), one label for each statement.

The label and the context are part of what is signed, so no statement stands for another one, nor for one of
another attempt, model, spec or roster.  Signatures are classical: they need to withstand present adversaries.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from unisono.base.errors import Corrupt
from unisono.base.ids import ClientName
from unisono.crypto.kdf import Field, encode
from unisono.crypto.keys import SigningKey, verify

from .encoding import PROTOCOL

Label = Literal["advertise", "share", "upload", "agree", "abandon"]
Members = tuple[int, ...]  # clients' numbers, rising
Tally = tuple[tuple[int, bytes], ...]  # (number, digest of what that client uploaded), rising


@dataclass(frozen=True, slots=True)
class Statement:
    """A label and its fields."""

    label: Label
    fields: tuple[Field, ...]

    def sign(self, key: SigningKey) -> bytes:
        """Return 64 bytes, always the same: Ed25519 is deterministic."""
        return key.sign(encode(PROTOCOL, self.label, *self.fields))

    def signed(self, identity: bytes | None, signature: bytes) -> bool:
        """Tell whether the owner of this Ed25519 key said exactly this; nobody (None) says nothing."""
        if identity is None:
            return False
        try:
            verify(identity, encode(PROTOCOL, self.label, *self.fields), signature)
        except Corrupt:
            return False
        return True


def advertise(ctx0: bytes, name: ClientName, keys: tuple[bytes, ...]) -> Statement:
    """State: these are my keys for this attempt."""
    return Statement("advertise", (ctx0, name, encode(*keys)))


def share(ctx: bytes, number: int) -> Statement:
    """State: I shared my secrets under this context: on this model, spec and roster."""
    return Statement("share", (ctx, number))


def upload(ctx: bytes, u1: Members, length: int, digest: bytes) -> Statement:
    """State: I sent this vector, masked against exactly these clients."""
    return Statement("upload", (ctx, _members(u1), length, digest))


def agree(ctx: bytes, u1: Members, u2: Tally) -> Statement:
    """State: these are the survivors, the only set that I will help to open."""
    return Statement("agree", (ctx, _members(u1), encode(*(encode(number, digest) for number, digest in u2))))


@lru_cache(maxsize=8)
def _members(u1: Members) -> bytes:
    """Encode a set: once, for a hundred statements about it."""
    return encode(*u1)


def abandon(ctx: bytes) -> Statement:
    """State: I have not revealed, and will never agree or reveal, under this context."""
    return Statement("abandon", (ctx,))
