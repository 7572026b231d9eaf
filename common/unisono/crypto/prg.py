"""A pseudorandom stream: the AES-256-CTR keystream (NIST SP 800-38A, section 6.5), and masks made of it."""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from unisono.base.errors import Fault

from .buffers import Readable, flat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

BLOCK = 16
# Encrypting zeros gives the bare keystream.  128 kB hide the call (64 kB: 6 % slower; 512 kB: 1 % faster) and
# stay in the cache.  Read only, so that all streams and threads share it.
_ZEROS = memoryview(bytes(1 << 17))
SCRATCH = len(_ZEROS) // 8  # words of scratch that suit `Mask` best


class Stream:
    """The keystream of `key` (32 bytes) from byte `offset` on.

    Byte 0 belongs to counter 0, so any chunk can be made again alone: counter = offset // 16.  A key serves
    one stream and nothing else (the counter block has no room for a nonce).
    """

    __slots__ = ("_keystream",)

    def __init__(self, key: bytes, offset: int = 0) -> None:
        if len(key) != 32:
            raise Fault(f"a stream key has 32 bytes, not {len(key)}")
        counter, skip = divmod(offset, BLOCK)
        self._keystream = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(BLOCK, "big"))).encryptor()
        self._keystream.update(_ZEROS[:skip])

    def fill(self, buffer: Readable) -> None:
        """Overwrite writable, contiguous `buffer` with the next bytes.  Allocates nothing, frees the GIL."""
        target = flat(buffer)
        for start in range(0, len(target), len(_ZEROS)):
            part = target[start : start + len(_ZEROS)]
            self._keystream.update_into(_ZEROS[: len(part)], part)


class Mask:
    """A stream as little-endian 64-bit words, added to a vector mod 2^64: byte 0 is the vector's byte 0.

    Any chunk can be masked alone; the next one in order needs no new cipher (15 us).  `scratch` (uint64,
    best SCRATCH of them) serves all masks of a thread.  Cipher and addition free the GIL.
    """

    __slots__ = ("_at", "_bytes", "_key", "_scratch", "_stream")

    def __init__(self, key: bytes, scratch: "Words") -> None:
        self._key, self._scratch, self._bytes = key, scratch, flat(scratch)
        self._stream, self._at = Stream(key), 0

    def add(self, words: "Words", offset: int) -> None:
        """Add in place to `words`, which begin at byte `offset` of the vector."""
        self._apply(operator.iadd, words, offset)

    def subtract(self, words: "Words", offset: int) -> None:
        self._apply(operator.isub, words, offset)

    def _apply(self, operation: "Callable[[Words, Words], Words]", words: "Words", offset: int) -> None:
        if offset % 8 or words.dtype != self._scratch.dtype:
            raise Fault(f"masks begin at whole 64-bit words, not at byte {offset} of {words.dtype}")
        stream = self._stream if offset == self._at else Stream(self._key, offset)
        self._at = -1  # until all is done: a stream left in the middle serves nobody
        for start in range(0, words.size, self._scratch.size):
            part = words[start : start + self._scratch.size]
            stream.fill(self._bytes[: part.nbytes])
            operation(part, self._scratch[: part.size])  # in place: a slice of an array is the array
        self._stream, self._at = stream, offset + words.nbytes
