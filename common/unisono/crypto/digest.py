"""SHA-256 (FIPS 180-4), the only hash: content addresses, manifests, fingerprints."""

import hashlib
import hmac

from unisono.base.ids import Digest

from .buffers import Readable, flat


class Sha256:
    """A running hash.  Hashing more than 2 kB at once releases the GIL."""

    __slots__ = ("_state",)

    def __init__(self, data: Readable = b"") -> None:
        self._state = hashlib.sha256(flat(data))

    def update(self, data: Readable) -> None:
        self._state.update(flat(data))

    def digest(self) -> bytes:
        return self._state.digest()

    def hexdigest(self) -> Digest:
        return Digest(self._state.hexdigest())

    def copy(self) -> "Sha256":
        """Fork the state: the digest so far can be taken and hashing goes on in either."""
        fork = Sha256()
        fork._state = self._state.copy()
        return fork


def sha256(data: Readable) -> bytes:
    """Return the 32-byte digest."""
    return Sha256(data).digest()


def sha256_hex(data: Readable) -> Digest:
    """Return the digest as we write it: 64 lower-case hexadecimal digits."""
    return Sha256(data).hexdigest()


def same(a: bytes, b: bytes) -> bool:
    """Compare two secrets; how long that takes does not tell where they differ."""
    return hmac.compare_digest(a, b)
