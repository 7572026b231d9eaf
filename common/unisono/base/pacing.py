"""How fast something may go: token buckets, and pieces that fit a link.  Pure: time is an argument."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

B = TypeVar("B", bytes, memoryview)
LEAST_PIECE, MOST_PIECE = 1 << 10, 1 << 20  # bytes of a chunk; the largest is that of the wire contract
FIRST_PIECE = 64 << 10
BUFFERED = 8 << 20  # bytes that windows, kernels and relays may take at once, however slow the link
QUICK, SLOW = 0.5, 2.0  # seconds for a piece: then the next ones are larger, or smaller


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` a second flow in, `burst` are saved up at most; it begins full."""

    rate: float
    burst: float
    left: float | None = None  # before it is first used
    at: float = 0.0

    def spend(self, now: float, amount: float = 1.0) -> float:
        """Take `amount` and return 0; or take nothing and return the seconds until it would be there."""
        left = self._flow(now)
        if left >= amount:
            self.left = left - amount
            return 0.0
        return (amount - left) / self.rate

    def owe(self, now: float, amount: float) -> float:
        """Take `amount` in any case; return the seconds to wait before going on, until nothing is owed."""
        self.left = left = self._flow(now) - amount
        return max(0.0, -left / self.rate)

    def full(self, now: float) -> bool:
        """Tell whether nothing is missing: then the bucket is as good as a new one."""
        return self._flow(now) >= self.burst

    def _flow(self, now: float) -> float:
        if self.left is None:
            self.left, self.at = self.burst, now
        self.left = min(self.burst, self.left + max(0.0, now - self.at) * self.rate)
        self.at = max(self.at, now)
        return self.left


@dataclass(slots=True)
class Pieces:
    """Cuts what is sent so that each piece takes a second or two, whatever the link.

    The other side sees progress when a piece is whole: a chunk of 1 MiB takes 150 s over 56 kbit/s, longer
    than a plan waits for a sign of life.  Pieces begin small, double while they are quick, and halve when
    they are slow; on a fast link all but the first few are of the full size.

    Where much is taken before the link is felt, quickness says nothing for the first `blind` bytes.

    All sizes are multiples of LEAST_PIECE, and so is what is cut: no rate leaves a small rest at the end of
    every MiB.  (A coordinator counts small chunks, and refuses an upload of many.)
    """

    most: int = MOST_PIECE
    size: int = FIRST_PIECE
    blind: int = 0

    def __post_init__(self) -> None:
        self.most = min(MOST_PIECE, _whole(self.most))
        self.size = min(self.size, self.most)

    def cut(self, data: B) -> Iterator[B]:
        """Yield `data` in pieces; each is as large as is right when it is asked for."""
        place, total = 0, len(data)
        while place < total:
            size = self.size
            yield data if size >= total and not place else data[place : place + size]
            place += size

    def trust(self) -> None:
        """Cut the largest pieces from now on: an acknowledgement has shown that the line is fast."""
        self.size, self.blind = self.most, 0

    def took(self, seconds: float, size: int) -> None:
        """Note how long the link took for a piece of `size` bytes."""
        if seconds > SLOW:
            self.size = _whole(self.size // 2)
        elif seconds < QUICK and size >= self.size and not self.blind:
            self.size = min(self.most, self.size * 2)
        self.blind = max(0, self.blind - size)


def _whole(size: int) -> int:
    """Return the multiple of LEAST_PIECE below a size, at least one."""
    return max(LEAST_PIECE, size - size % LEAST_PIECE)
