"""Masks: keystreams that are added to a vector's words and cancel in the sum."""

import operator
from collections.abc import Callable

from unisono.base.errors import Fault
from unisono.codec.lanes import Words
from unisono.crypto.buffers import flat
from unisono.crypto.prg import CHUNK, Stream

SCRATCH = CHUNK // 8  # words of scratch that suit `Mask` best


class Mask:
    """A stream as little-endian 64-bit words, added to a vector mod 2^64: byte 0 is the vector's byte 0.

    Any chunk can be masked alone; the next one in order needs no new cipher (15 us).  `scratch` (uint64,
    best SCRATCH of them) serves all masks of a thread.  Cipher and addition free the GIL.
    """

    __slots__ = ("_at", "_bytes", "_key", "_scratch", "_stream")

    def __init__(self, key: bytes, scratch: Words) -> None:
        self._key, self._scratch, self._bytes = key, scratch, flat(scratch)
        self._stream, self._at = Stream(key), 0

    def add(self, words: Words, offset: int) -> None:
        """Add in place to `words`, which begin at byte `offset` of the vector."""
        self._apply(operator.iadd, words, offset)

    def subtract(self, words: Words, offset: int) -> None:
        self._apply(operator.isub, words, offset)

    def _apply(self, operation: Callable[[Words, Words], Words], words: Words, offset: int) -> None:
        if offset % 8 or words.dtype != self._scratch.dtype:
            raise Fault(f"masks begin at whole 64-bit words, not at byte {offset} of {words.dtype}")
        stream = self._stream if offset == self._at else Stream(self._key, offset)
        self._at = -1  # until all is done: a stream left in the middle serves nobody
        for start in range(0, words.size, self._scratch.size):
            part = words[start : start + self._scratch.size]
            stream.fill(self._bytes[: part.nbytes])
            operation(part, self._scratch[: part.size])  # in place: a slice of an array is the array
        self._stream, self._at = stream, offset + words.nbytes
