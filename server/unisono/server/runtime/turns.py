"""Turns: how many transfers move at the same time, so that memory does not grow with the number of clients.

A stream that moves as fast as it can holds some 8 MB here (gRPC's window, whole messages, segments), and the
one thread that moves them all is busy with a few.  So a stream lines up before it reads or sends, and keeps
its turn while it has something to move, for some seconds; then it lines up again.  One that has
nothing (a slow link, a slow site) gives its turn up until it has something again: what comes slowly holds
little here and shall hold nobody up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

AT_ONCE = 4
PATIENCE = 0.5  # seconds that a turn is kept for a stream that has nothing
SLICE = 5.0  # seconds of one turn: clients give a transfer up that stands still for 60
SIGN = 5.0  # seconds between two signs that somebody waits in line


class Turns:
    """One line for all transfers.  Nobody has two turns: a newer stream takes over an older one's."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.free = asyncio.Semaphore(at_once)
        self.held: dict[str, Turn] = {}  # by owner

    def turn(self, owner: str, waits: Callable[[], None]) -> "Turn":
        """Return a stream's place; `waits` is called now and then while it stands in line."""
        return Turn(self, owner, waits)


class Turn:
    """One stream's place.  Leaving the context gives the turn up."""

    def __init__(self, turns: Turns, owner: str, waits: Callable[[], None]) -> None:
        self._turns, self._owner, self._waits = turns, owner, waits
        self._timer: asyncio.TimerHandle | None = None  # set while it is our turn
        self._since = 0.0

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give()

    async def take(self) -> None:
        """Return when it is this stream's turn; it then has PATIENCE to come back for more."""
        loop = asyncio.get_running_loop()
        if self._timer is not None and loop.time() - self._since > SLICE:
            self.give()
        if self._timer is None:
            await self._line_up()
            self._since = loop.time()
        else:
            self._timer.cancel()
        self._timer = loop.call_later(PATIENCE, self.give)

    def give(self) -> None:
        """Let the next one move, if it is this stream's turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            del self._turns.held[self._owner]
            self._turns.free.release()

    async def paced(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield what comes, each when it is this stream's turn."""
        async for item in source:
            await self.take()
            yield item
        self.give()

    async def _line_up(self) -> None:
        older = self._turns.held.get(self._owner)
        if older is not None:
            older.give()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SIGN):
                    await self._turns.free.acquire()
                    break
            self._waits()
        older = self._turns.held.get(self._owner)  # which came while we stood in line
        if older is not None:
            older.give()
        self._turns.held[self._owner] = self
