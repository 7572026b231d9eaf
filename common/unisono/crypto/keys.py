"""Private keys: X25519 and ML-KEM-768 to receive, Ed25519 to sign, P-256 for TLS.

TLS has P-256 because gRPC's TLS takes no Ed25519 certificate.  Its keys come from OpenSSL's generator (a
uniform scalar needs more care than 32 random bytes); all others are bytes of the caller's entropy.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from unisono.base.errors import Corrupt

from .entropy import Entropy

KEM_SEED, KEM_PUBLIC, KEM_CIPHERTEXT = 64, 1184, 1088
CURVE = ec.SECP256R1()
K = TypeVar("K", X25519PrivateKey, MLKEM768PrivateKey, Ed25519PrivateKey)


@dataclass(frozen=True, slots=True)
class _RawKey(Generic[K]):
    """What all keys but TLS's have in common: they are drawn, stored and moved as raw bytes."""

    _kind: ClassVar[str]
    _bytes: ClassVar[int] = 32
    _load: "ClassVar[staticmethod[[bytes], Any]]"  # raw bytes to K
    private: K = field(repr=False)

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        return cls.from_bytes(entropy(cls._bytes))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        if len(raw) != cls._bytes:
            raise Corrupt(f"an {cls._kind} has {cls._bytes} bytes, not {len(raw)}")
        return cls(cls._load(raw))

    def to_bytes(self) -> bytes:
        return self.private.private_bytes_raw()

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()


class SealingKey(_RawKey[X25519PrivateKey]):
    """X25519 (RFC 7748): what is sealed to its public half, it opens."""

    __slots__ = ()
    _kind, _load = "X25519 private key", staticmethod(X25519PrivateKey.from_private_bytes)

    def agree(self, public: bytes) -> bytes:
        """Return the shared secret, to be hashed.  All zeros raise Corrupt (RFC 7748, section 6.1)."""
        try:
            return self.private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise Corrupt("an X25519 public key is not 32 bytes, or is of small order") from None


class KemKey(_RawKey[MLKEM768PrivateKey]):
    """ML-KEM-768 (FIPS 203), as its seed (d, then z).

    Against quantum computers; its secret joins an X25519 one in `hkdf` and is never used alone.
    """

    __slots__ = ()
    _kind, _bytes, _load = "ML-KEM-768 seed", KEM_SEED, staticmethod(MLKEM768PrivateKey.from_seed_bytes)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return 32 bytes.  An altered ciphertext gives *other* bytes, no error (FIPS 203, algorithm 18)."""
        if len(ciphertext) != KEM_CIPHERTEXT:
            raise Corrupt(f"an ML-KEM-768 ciphertext has {KEM_CIPHERTEXT} bytes, not {len(ciphertext)}")
        return self.private.decapsulate(ciphertext)


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Return (secret, ciphertext) with OpenSSL's entropy: never the same twice, so store before you send."""
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:  # the length, or a coefficient above the modulus (FIPS 203, section 7.2)
        raise Corrupt(f"{len(public)} bytes that are no ML-KEM-768 public key") from None


class SigningKey(_RawKey[Ed25519PrivateKey]):
    """Ed25519 (RFC 8032): a site's identity.  Deterministic: no entropy at signing time that could fail."""

    __slots__ = ()
    _kind, _load = "Ed25519 private key", staticmethod(Ed25519PrivateKey.from_private_bytes)

    def sign(self, message: bytes) -> bytes:
        """Return 64 bytes.  Callers sign `identity.Statement`s only, whose label says what is stated."""
        return self.private.sign(message)


# y of the points of order 1, 2, 4 and 8 (RFC 7748 calls their like for X25519 small).  Under such a key one
# signature fits many messages, and anybody can make it: the library takes 64 zeros under the key of 32 zeros
# for a quarter of all messages.  (Found by fuzzing.)
_P = 2**255 - 19
_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_WEAK = {1, _P - 1, 0, _OF_ORDER_8, _P - _OF_ORDER_8}


def is_weak(public: bytes) -> bool:
    """Tell whether an Ed25519 key is a point of small order, which nobody makes by chance."""
    y = int.from_bytes(public, "little") % 2**255 % _P  # without the sign of x; it may come not reduced
    return len(public) == 32 and y in _WEAK


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
        if len(raw) != 32:
            raise Corrupt(f"a P-256 private key has 32 bytes, not {len(raw)}")
        try:
            return cls(ec.derive_private_key(int.from_bytes(raw, "big"), CURVE))
        except ValueError:
            raise Corrupt("a P-256 private key is zero or above the order of the curve") from None

    def to_bytes(self) -> bytes:
        return self.private.private_numbers().private_value.to_bytes(32, "big")

    def to_pem(self) -> bytes:
        """Return PKCS 8 in PEM, not encrypted: gRPC wants it so; the file's mode (0600) protects it."""
        return self.private.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
