"""What a site allows of its own line: a rate for what it sends, and hours for all that moves.

Nothing of it is a matter of trust: the coordinator is told (`Hello`), so that people can see why it waits.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

from unisono.base.clock import Clock
from unisono.base.errors import Error
from unisono.base.pacing import BUFFERED, FIRST_PIECE, MOST_PIECE, Bucket, Pieces
from unisono.client.config import Network

from .halt import Halt
from .strides import FAST, LEAST, Strides

REST_SECONDS = (
    10.0  # between two signs of life outside the hours; half of the plan's patience if that is less
)
FIRST_STREAM = 128 << 10  # bytes of a stream after a break
Day = Callable[[float], time.struct_time]


class Resting(Error):
    """It is outside the site's hours: nothing is fetched or sent."""

    code = "resting"


class Outlet(Protocol):
    """What a transfer asks before it goes on."""

    def check(self) -> None:
        """Raise Resting outside the site's hours."""
        ...

    def passing(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` in pieces, each when it may go; fewer of them when the hours are over."""
        ...

    def stream(self) -> int:
        """Begin a stream; return how many bytes it should carry."""
        ...

    def arrived(self, count: int) -> None:
        """Note that so many bytes of the stream are acknowledged."""
        ...

    def broke(self) -> None:
        """Note that the connection broke under the stream."""
        ...


class Allowance:
    """One site's limits, on the site's clock."""

    def __init__(self, network: Network, clock: Clock, halt: Halt, day: Day = time.localtime) -> None:
        rate = network.rate
        self.hours = network.span
        self._clock, self._halt, self._day = clock, halt, day
        self._bucket = Bucket(rate, rate) if rate else None
        # The coordinator's window and the kernel take megabytes at once.  What was learnt is kept.
        self._strides, self._began = Strides(FIRST_STREAM), 0.0
        self._pieces = Pieces(round(rate) if rate else MOST_PIECE, 2 * FIRST_PIECE, BUFFERED)

    def opens_in(self) -> float:
        """Return the seconds until something may move; 0 if it may now."""
        if self.hours is None:
            return 0.0
        here = self._day(self._clock.wall())
        return self.hours.opens_in(3600.0 * here.tm_hour + 60.0 * here.tm_min + here.tm_sec)

    def rest(self, idle_seconds: float) -> float:
        """Return the seconds until the coordinator is to hear again that this site rests; 0: it does not."""
        return min(self.opens_in(), REST_SECONDS, idle_seconds / 2)

    def check(self) -> None:
        """Raise Resting outside the site's hours."""
        if self.opens_in():
            raise Resting(f"outside the hours {self.hours} of [network]")

    def passing(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` in pieces, each when it may go; fewer of them when the hours are over.

        It is called by gRPC's thread, which has no use for an exception: it ends instead.
        """
        for piece in self._pieces.cut(data):
            if self.opens_in() or self._halt.asked or self._held_back(len(piece)):
                return
            began = self._clock.ticks()
            yield piece
            self._pieces.took(self._clock.ticks() - began, len(piece))

    def _held_back(self, count: int) -> bool:
        """Wait as the rate asks for; tell whether the process is to end instead."""
        owed = self._bucket.owe(self._clock.ticks(), count) if self._bucket is not None else 0.0
        return owed > 0.0 and self._halt.waited(owed)

    def stream(self) -> int:
        """Begin a stream; return how many bytes it should carry."""
        self._began = self._clock.ticks()
        return self._strides.size

    def arrived(self, count: int) -> None:
        """Note that so many bytes of the stream are acknowledged."""
        seconds = self._clock.ticks() - self._began
        if count >= FIRST_PIECE and count > FAST * seconds:
            self._pieces.trust()
        self._strides.arrived(count, seconds)

    def broke(self) -> None:
        """Note that the connection broke under the stream."""
        self._strides.broke()
        self._pieces.size, self._pieces.blind = min(self._pieces.size, LEAST), BUFFERED

    def until(self) -> str:
        """Return when the hours begin, for people: "20:00"."""
        return datetime.fromtimestamp(self._clock.wall() + self.opens_in()).strftime("%H:%M")  # noqa: DTZ006
