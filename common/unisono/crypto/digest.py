"""SHA-256 (FIPS 180-4), the only hash: content addresses, manifests, fingerprints."""

import hashlib
import hmac

from unisono.base.ids import Digest

from .buffers import Readable, flat


class Sha256:
    """A running hash.  Hashing more than 2 kB at once releases the GIL."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def update(self, data: Readable) -> None:
        self._state.update(flat(data))

    def hexdigest(self) -> Digest:
        return Digest(self._state.hexdigest())


def sha256(data: Readable) -> bytes:
    """Return the 32-byte digest."""
    return hashlib.sha256(flat(data)).digest()


def sha256_hex(data: Readable) -> Digest:
    """Return the digest as we write it: 64 lower-case hexadecimal digits."""
    return Digest(hashlib.sha256(flat(data)).hexdigest())


def same(a: bytes, b: bytes) -> bool:
    """Compare two secrets; how long that takes does not tell where they differ."""
    return hmac.compare_digest(a, b)
