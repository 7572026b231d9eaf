"""What a client holds for a while: its own private keys, and shares of the others' secrets."""

from dataclasses import dataclass, field

from unisono.crypto.kem import KEM_SEED
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


@dataclass(frozen=True, slots=True)
class Held(Coded):
    """Shares of both secrets of one member of U1.  One of the two may leave, never both."""

    owner: int
    b: bytes = field(repr=False)
    v: bytes = field(repr=False)

    def __post_init__(self) -> None:
        exactly("a share", self.b, SHARE)
        exactly("a share", self.v, SHARE)
