"""What is derived from what.  ctx is the salt of every key; every key has one label, direction and message.

A pair's secrets come from X25519 *and* ML-KEM-768, encapsulated in both directions, so that a recorder of
today's traffic with tomorrow's quantum computer opens neither shares nor masks.
"""

from dataclasses import dataclass, field

from unisono.base.errors import Corrupt
from unisono.crypto.digest import sha256
from unisono.crypto.kdf import encode, hkdf
from unisono.crypto.keys import KEM_SEED
from unisono.crypto.segments import TAG, Opener, Sealer
from unisono.crypto.shamir import PRIME, SHARE

from .encoding import Coded


@dataclass(frozen=True)
class MaskStream(Coded, kept=True):
    """An AES-256-CTR keystream and what to do with its words: add them, or subtract them, mod 2^64."""

    key: bytes = field(repr=False)
    add: bool

    @property
    def sign(self) -> int:
        return 1 if self.add else -1


@dataclass(frozen=True, slots=True)
class Vault:
    """What rebuilds a dropped client's pair seeds: its mask keys and what it encapsulated to others."""

    s: bytes = field(repr=False)  # X25519
    es: bytes = field(repr=False)  # seed of ML-KEM-768
    secrets: tuple[bytes, ...] = field(repr=False)  # for every other client, in the order of the roster

    @staticmethod
    def length(clients: int) -> int:
        """Return the sealed bytes: the same for everybody, so that they tell nothing."""
        return 32 + KEM_SEED + 32 * (clients - 1) + TAG

    def seal(self, key: bytes, ctx: bytes, number: int) -> bytes:
        """Encrypt under a key from v, of which every other client holds a share."""
        return _seal(_vault_key(key, ctx), encode(ctx, number), b"".join((self.s, self.es, *self.secrets)))

    @classmethod
    def open(cls, sealed: bytes, key: bytes, ctx: bytes, number: int) -> "Vault":
        """Return what `seal` took.  Raises Corrupt."""
        plain = _open(_vault_key(key, ctx), encode(ctx, number), sealed)
        rest = plain[32 + KEM_SEED :]
        secrets = tuple(rest[i : i + 32] for i in range(0, len(rest), 32))
        return cls(plain[:32], plain[32 : 32 + KEM_SEED], secrets)


def _vault_key(secret: bytes, ctx: bytes) -> bytes:
    return hkdf(secret, salt=ctx, info=encode("vault"))


def commitment(ctx: bytes, secret: bytes) -> bytes:
    """Return what a client says of its self-mask secret before anybody can open it."""
    return sha256(encode("b", ctx, secret))


def self_seed(ctx: bytes, secret: bytes) -> bytes:
    """Return the key of the client's own mask."""
    return hkdf(secret, salt=ctx, info=encode("self"))


def pair_seed(ctx: bytes, shared: bytes, mine: tuple[int, bytes], theirs: tuple[int, bytes]) -> bytes:
    """Return the key of a pair's mask, the same at both ends.

    Args:
        ctx: the context.
        shared: X25519 of the two keys `s`.
        mine: one client's number and the secret that it encapsulated to the other.
        theirs: the other's.

    """
    (low, zm_low), (high, zm_high) = sorted((mine, theirs))
    return hkdf(shared + zm_low + zm_high, salt=ctx, info=encode("mask", low, high))


def adds(number: int, other: int) -> bool:
    """Tell whether client `number` adds the mask that it shares with `other`; one of the two subtracts it."""
    return number < other


@dataclass(frozen=True, slots=True)
class Lane:
    """The way of one parcel: context, sender, receiver and both encapsulations, bound to its key and tag."""

    ctx: bytes
    sender: int
    receiver: int
    share_kem: bytes
    mask_kem: bytes

    def seal(self, secret: bytes, shares: tuple[bytes, bytes]) -> bytes:
        """Encrypt the shares of b and v under X25519 ‖ KEM secret."""
        return _seal(self._key(secret), self._context(), b"".join(shares))

    def open(self, secret: bytes, box: bytes) -> tuple[bytes, bytes]:
        """Return the shares of b and v.  Raises Corrupt, also for a number that is no share."""
        plain = _open(self._key(secret), self._context(), box)
        pair = plain[:SHARE], plain[SHARE:]
        if not all(map(is_share, pair)):
            raise Corrupt("a share is not 33 bytes of a number below 2^256 + 297")
        return pair

    def _key(self, secret: bytes) -> bytes:
        return hkdf(secret, salt=self.ctx, info=encode("share", self.sender, self.receiver))

    def _context(self) -> bytes:
        kems = sha256(encode(self.share_kem, self.mask_kem))
        return encode(self.ctx, self.sender, self.receiver, kems)


def is_share(raw: bytes) -> bool:
    """Tell whether this is a number of Shamir's field."""
    return len(raw) == SHARE and int.from_bytes(raw, "big") < PRIME


def _seal(key: bytes, context: bytes, plain: bytes) -> bytes:
    """AES-256-GCM with a constant nonce: `key` seals this one message, stored before it is sent."""
    return Sealer(key, context).seal(plain, last=True)


def _open(key: bytes, context: bytes, sealed: bytes) -> bytes:
    return Opener(key, context).open(0, sealed, last=True)
