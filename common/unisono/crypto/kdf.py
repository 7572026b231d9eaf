"""Keys from keys, and the canonical encoding of everything that is derived from, authenticated or signed.

What a key or a signature is for stands in its label, beside its use and nowhere else: two uses with one label
could be played against each other.  A changed construction gets a new number.
"""

from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Field: TypeAlias = bytes | str | int


def hkdf(secret: bytes, *, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """Return `length` bytes of HKDF-SHA256 (RFC 5869): `salt` makes it fresh, `info` says what it is for."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def encode(*fields: Field) -> bytes:
    """Join fields so that no two different lists give the same bytes.

    Every field follows its length (8 bytes, big endian), so ("ab", "c") is not ("a", "bc").  Text is UTF-8,
    integers are 8 bytes, big endian, unsigned (OverflowError otherwise).  Kinds are not marked: the label,
    always the first field, fixes what follows.
    """
    parts: list[bytes] = []
    for field in fields:
        if isinstance(field, bytes):
            raw = field
        else:
            raw = field.encode() if isinstance(field, str) else field.to_bytes(8, "big")
        parts += (len(raw).to_bytes(8, "big"), raw)
    return b"".join(parts)
