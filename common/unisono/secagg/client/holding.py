"""What a client holds for a while: its own private keys, and shares of the others' secrets."""

from dataclasses import dataclass, field

from unisono.crypto.keys import KEM_SEED, KemKey, SealingKey
from unisono.crypto.shamir import SHARE
from unisono.secagg.shared.encoding import Coded, exactly


@dataclass(frozen=True, slots=True)
class Keys(Coded):
    """The private halves, fresh from the operating system for each attempt."""

    c: bytes = field(repr=False)
    ec: bytes = field(repr=False)
    s: bytes = field(repr=False)
    es: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for raw, length in ((self.c, 32), (self.s, 32), (self.ec, KEM_SEED), (self.es, KEM_SEED)):
            exactly("a private key", raw, length)

    def exchanging(self) -> tuple[SealingKey, SealingKey]:
        """Return c and s, ready for a hundred exchanges."""
        return SealingKey.from_bytes(self.c), SealingKey.from_bytes(self.s)

    def decapsulating(self) -> tuple[KemKey, KemKey]:
        """Return ec and es, ready for use."""
        return KemKey.from_bytes(self.ec), KemKey.from_bytes(self.es)


@dataclass(frozen=True, slots=True)
class Pair(Coded):
    """What leg 1 made for one other client and its answer needs again: an exchange takes 30 us, twice."""

    c: bytes = field(repr=False)  # X25519 of both c, for shares
    s: bytes = field(repr=False)  # of both s, for masks
    mask: bytes = field(repr=False)  # encapsulated to the other's es

    def __post_init__(self) -> None:
        for raw in (self.c, self.s, self.mask):
            exactly("a secret of two clients", raw, 32)


@dataclass(frozen=True)
class Held(Coded, kept=True):
    """Shares of both secrets of one member of U1.  One of the two may leave, never both."""

    owner: int
    b: bytes = field(repr=False)
    v: bytes = field(repr=False)

    def __post_init__(self) -> None:
        exactly("a share", self.b, SHARE)
        exactly("a share", self.v, SHARE)
