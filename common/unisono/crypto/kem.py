"""ML-KEM-768 (FIPS 203), against quantum computers; its secret joins an X25519 one in `hkdf`, never alone."""

from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from unisono.base.errors import Corrupt

from .entropy import Entropy

KEM_SEED, KEM_PUBLIC, KEM_CIPHERTEXT = 64, 1184, 1088


@dataclass(frozen=True, slots=True)
class KemKey:
    """Kept as its seed (d, then z): 64 bytes, from which all else follows."""

    private: MLKEM768PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        return cls.from_seed(entropy(KEM_SEED))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        if len(seed) != KEM_SEED:
            raise Corrupt(f"an ML-KEM-768 seed has {KEM_SEED} bytes, not {len(seed)}")
        return cls(MLKEM768PrivateKey.from_seed_bytes(seed))

    @property
    def seed(self) -> bytes:
        return self.private.private_bytes_raw()

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

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
