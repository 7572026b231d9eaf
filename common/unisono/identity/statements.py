"""Statements: what a site says under its Ed25519 identity, in one canonical form."""

from dataclasses import dataclass

from unisono.base.errors import BadCredentials, Corrupt
from unisono.base.ids import Digest
from unisono.crypto.kdf import Field, encode
from unisono.crypto.keys import SigningKey, verify

LABEL = b"unisono/statement/1"  # first field under every Ed25519 signature but secagg's


@dataclass(frozen=True, slots=True)
class Statement:
    """A kind and its fields.  The kind fixes how many fields follow and what they are.

    The label and the kind are part of what is signed, so no statement stands for another, and no signature of
    a statement is one of anything else.
    """

    kind: str
    fields: tuple[Field, ...]

    def message(self) -> bytes:
        """Return the bytes that are signed: `encode` of label, kind and fields."""
        return encode(LABEL, self.kind, *self.fields)

    def sign(self, key: SigningKey) -> bytes:
        """Return the 64 bytes that `check` takes."""
        return key.sign(self.message())

    def check(self, public: bytes, signature: bytes) -> None:
        """Raise BadCredentials unless the owner of the Ed25519 key `public` made exactly this statement."""
        try:
            verify(public, self.message(), signature)
        except Corrupt:
            raise BadCredentials(f'the signature under the statement "{self.kind}" does not match') from None


def rotation(ca: Digest, name: str, old: Digest, new: bytes) -> Statement:
    """Return what a site signs with its old key to go on with a new one.

    Args:
        ca: fingerprint of the federation's CA: a statement of one federation means nothing in another.
        name: the site.
        old: fingerprint of the key that signs, so that it cannot be played again after a later change.
        new: the new Ed25519 public key, 32 bytes; its own request proves that the site has it.

    """
    return Statement("rotate", (ca, name, old, new))
