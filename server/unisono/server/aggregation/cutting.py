"""Cuts a stream of bytes into slices of one size, as encrypted files want them."""

from collections.abc import Iterator

from unisono.tensors import Bytes


class Cutter:
    """Every slice has `size` bytes; only the last, from `rest`, may have fewer, and is never empty."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pending = bytearray()

    def push(self, data: Bytes) -> Iterator[bytes]:
        self._pending += data
        while len(self._pending) >= self._size:
            yield bytes(self._pending[: self._size])
            del self._pending[: self._size]

    def rest(self) -> Iterator[bytes]:
        if self._pending:
            yield bytes(self._pending)
            self._pending.clear()
