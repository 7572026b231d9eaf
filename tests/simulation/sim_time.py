"""Virtual time: an event loop that never sleeps, and clocks that move when the world says so.

The loop is asyncio's own; only its selector is ours.  When nothing is left to run at this moment, asyncio
asks the selector to wait: that is the moment at which the world may act, or let time pass.
"""

import asyncio
import selectors
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

START = 1_700_000_000.0  # wall


TURNS = 200_000  # of the loop, at one moment


class StandsStill(AssertionError):
    """Nothing would ever happen again, and nobody is there to act; or all happens at one moment."""


class _Nothing(selectors.BaseSelector):
    """No file is ever ready; being asked to wait means that this moment is over."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(
        self, fileobj: "FileDescriptorLike", events: int, data: object = None
    ) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return self._keys[number]

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._loop.at_rest()
        else:
            self._loop.turned()
        return []

    def get_map(self) -> Mapping["FileDescriptorLike", selectors.SelectorKey]:
        found: dict[FileDescriptorLike, selectors.SelectorKey] = {}
        found.update(self._keys.items())
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is due now, and then whoever waits for quiet."""

    def __init__(self) -> None:
        self.now = 0.0
        self._turns = 0
        self._waiter: asyncio.Future[None] | None = None
        super().__init__(_Nothing(self))

    def time(self) -> float:
        return self.now

    async def quiet(self) -> None:
        """Return when nothing else can run at this moment."""
        assert self._waiter is None
        self._waiter = self.create_future()
        await self._waiter

    def turned(self) -> None:
        self._turns += 1
        if self._turns > TURNS:
            raise StandsStill(f"{TURNS} turns of the loop, and this moment does not end")

    def at_rest(self) -> None:
        self._turns = 0
        if self._waiter is None:
            raise StandsStill("every task waits, and so does the world")
        waiter, self._waiter = self._waiter, None
        waiter.set_result(None)

    def next_timer(self) -> float:
        """Return when the next task wakes up by itself; infinity if none does."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return min((timer.when() for timer in timers if not timer.cancelled()), default=float("inf"))


class Now(Protocol):
    """Whatever knows the time of a world."""

    now: float


@dataclass
class MachineClock:
    """One machine's clock: all tick alike, each may have another date."""

    loop: Now
    wrong: float = 0.0  # seconds by which the wall clock is off

    def ticks(self) -> float:
        return self.loop.now

    def wall(self) -> float:
        return START + self.loop.now + self.wrong
