"""A long file as sealed segments: written and read in pieces, and no piece can be taken for another.

STREAM (Hoang, Reyhanitabar, Rogaway, Vizar 2015, section 7) over AES-256-GCM (NIST SP 800-38D), as in age:
the nonce counts segments and marks the last, so that reordering, repeating, dropping and cutting short fail.
Nothing in it is random: a key seals one file (`at_rest` and `sealing` derive a fresh one each time).
"""

from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from unisono.base.errors import Corrupt, Fault

from .buffers import Readable, flat

SEGMENT = 1 << 20  # plain bytes in every segment but the last
TAG = 16
# The one answer to every mismatch: which of them it is cannot be known.
_CLOSED = "does not open: altered, moved, cut short, or of another key or context"


def layout(plain: int) -> Iterator[tuple[int, int, int, bool]]:
    """Yield (index, start, stop, last) of every segment of a file of `plain` bytes; an empty file has one."""
    for index, start in enumerate(range(0, max(1, plain), SEGMENT)):
        stop = min(plain, start + SEGMENT)
        yield index, start, stop, stop == plain


def sealed_length(plain: int) -> int:
    """Return the sealed bytes, without any header, of a file of `plain` bytes."""
    return plain + TAG * max(1, -(-plain // SEGMENT))


def plain_length(sealed: int) -> int:
    """Return the inverse of `sealed_length`.  Raises Corrupt for a length that no file has."""
    plain = sealed - TAG * -(-sealed // (SEGMENT + TAG))
    if sealed < TAG or sealed_length(plain) != sealed:
        raise Corrupt(f"a sealed file of {sealed} bytes was cut short or extended: no file has that length")
    return plain


def _nonce(index: int, last: bool) -> bytes:
    """Return 7 zero bytes, the index in 4 bytes, the flag; 2**32 segments are 4 PiB, then OverflowError."""
    return bytes(7) + index.to_bytes(4, "big") + (b"\1" if last else b"\0")


def _fits(length: int, index: int, last: bool) -> bool:
    """Tell whether a segment may have this many plain bytes: full, or last and (unless alone) not empty."""
    return length == SEGMENT or (last and length < SEGMENT and (length > 0 or index == 0))


class _Segments:
    """The cipher of one file.  `context` (who, what, which round) is authenticated only."""

    __slots__ = ("_cipher", "_context")

    def __init__(self, key: bytes, context: bytes) -> None:
        if len(key) != 32:  # the library would silently take AES-128
            raise Fault(f"a segment key has 32 bytes, not {len(key)}")
        self._cipher, self._context = AESGCM(key), context


class Sealer(_Segments):
    """Seals one file's segments in order."""

    __slots__ = ("_ended", "_index")

    def __init__(self, key: bytes, context: bytes) -> None:
        super().__init__(key, context)
        self._index, self._ended = 0, False

    def seal(self, segment: Readable, *, last: bool) -> bytes:
        """Return the segment, encrypted, and its tag."""
        plain = flat(segment)
        return self._cipher.encrypt(self._next(len(plain), last), plain, self._context)

    def seal_into(self, segment: Readable, out: Readable, *, last: bool) -> int:
        """Write what `seal` returns to the front of `out` and return its length.

        With a reused `out` faster (10.8 against 1.4 GiB/s when malloc maps every megabyte anew).  The
        buffers must not overlap.  Like all here it releases the GIL.
        """
        plain = flat(segment)
        target = flat(out)[: len(plain) + TAG]
        return self._cipher.encrypt_into(self._next(len(plain), last), plain, self._context, target)

    def _next(self, length: int, last: bool) -> bytes:
        """Return this segment's nonce, spent even if sealing then fails: a nonce never serves twice."""
        if self._ended or not _fits(length, self._index, last):
            raise Fault(f"segment {self._index} may not have {length} bytes, or follows the last one")
        nonce = _nonce(self._index, last)
        self._index, self._ended = self._index + 1, last
        return nonce


class Opener(_Segments):
    """Opens one file's segments, in any order."""

    __slots__ = ()

    def open(self, index: int, sealed: Readable, *, last: bool) -> bytes:
        """Return the plain segment.  Raises Corrupt if a bit, its place or the context is another."""
        source = _sealed(index, sealed, last)
        try:
            return self._cipher.decrypt(_nonce(index, last), source, self._context)
        except InvalidTag:
            raise Corrupt(f"segment {index} {_CLOSED}") from None

    def open_into(self, index: int, sealed: Readable, out: Readable, *, last: bool) -> int:
        """Write what `open` returns to the front of `out` and return its length: the fast way.

        After Corrupt, that part of `out` is zeros: GCM decrypts before it knows that the tag is wrong.
        """
        source = _sealed(index, sealed, last)
        target = flat(out)[: len(source) - TAG]
        try:
            return self._cipher.decrypt_into(_nonce(index, last), source, self._context, target)
        except InvalidTag:
            target[:] = bytes(len(target))
            raise Corrupt(f"segment {index} {_CLOSED}") from None


def _sealed(index: int, sealed: Readable, last: bool) -> memoryview:
    source = flat(sealed)
    if not _fits(len(source) - TAG, index, last):
        kind = "last" if last else "inner"
        raise Corrupt(f"segment {index} has {len(source)} bytes, which no {kind} segment has")
    return source
