"""Private keys: X25519 to receive, Ed25519 to sign, P-256 for TLS.

TLS has P-256 because gRPC's TLS takes no Ed25519 certificate.  Raw keys are 32 bytes of the caller's entropy;
P-256 keys come from OpenSSL's generator (a uniform scalar needs more care than 32 random bytes).
"""

from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from unisono.base.errors import Corrupt

from .entropy import Entropy

CURVE = ec.SECP256R1()


@dataclass(frozen=True, slots=True)
class SealingKey:
    """X25519 (RFC 7748): what is sealed to its public half, it opens."""

    private: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        return cls.from_bytes(entropy(32))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        _need_32("X25519 private key", raw)
        return cls(X25519PrivateKey.from_private_bytes(raw))

    def to_bytes(self) -> bytes:
        return self.private.private_bytes_raw()

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """Return the shared secret, to be hashed.  All zeros raise Corrupt (RFC 7748, section 6.1)."""
        try:
            return self.private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise Corrupt("an X25519 public key is not 32 bytes, or is of small order") from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Ed25519 (RFC 8032): a site's identity.  Deterministic: no entropy at signing time that could fail."""

    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        return cls.from_bytes(entropy(32))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        _need_32("Ed25519 private key", raw)
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    def to_bytes(self) -> bytes:
        return self.private.private_bytes_raw()

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return 64 bytes.  Callers sign `identity.Statement`s only, whose label says what is stated."""
        return self.private.sign(message)


# The points of order 1, 2, 4 and 8 as they may be written, without the bit of the sign (RFC 7748 calls their
# like for X25519 small).  Under such a key one signature fits many messages, and anybody can make it: the
# library takes 64 zeros under the key of 32 zeros for a quarter of all messages.  (Found by fuzzing.)
_WEAK = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",  # 0 and 1 again, not reduced
        "ee" + "ff" * 30 + "7f",
    )
)


def is_weak(public: bytes) -> bool:
    """Tell whether an Ed25519 key is a point of small order, which nobody makes by chance."""
    return public[:31] + bytes((public[-1] & 0x7F,)) in _WEAK if len(public) == 32 else False


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raise Corrupt unless `signature` is that of the Ed25519 key `public` under `message`."""
    if is_weak(public):
        raise Corrupt("an Ed25519 key of small order: anybody could sign with it")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Corrupt("a signature does not match its message and key") from None


@dataclass(frozen=True, slots=True)
class TlsKey:
    """P-256 (FIPS 186-5): for TLS and for the certificate authority."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(ec.generate_private_key(CURVE))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read what `to_pem` wrote.  Raises Corrupt."""
        try:
            key = ser.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise Corrupt("not an unencrypted private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != CURVE.name:
            raise Corrupt("the private key is not of the curve P-256")
        return cls(key)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the private scalar, 32 bytes big endian: the short form for join tokens.  Raises Corrupt."""
        _need_32("P-256 private key", raw)
        try:
            return cls(ec.derive_private_key(int.from_bytes(raw, "big"), CURVE))
        except ValueError:
            raise Corrupt("a P-256 private key is zero or above the order of the curve") from None

    def to_bytes(self) -> bytes:
        return self.private.private_numbers().private_value.to_bytes(32, "big")

    def to_pem(self) -> bytes:
        """Return PKCS 8 in PEM, not encrypted: gRPC wants it so; the file's mode (0600) protects it."""
        return self.private.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


def _need_32(what: str, raw: bytes) -> None:
    if len(raw) != 32:
        raise Corrupt(f"an {what} has 32 bytes, not {len(raw)}")
