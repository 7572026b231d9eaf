"""Wakes long polls: each client has a bell, rung when its instruction may have changed."""

import asyncio
from collections.abc import Iterable
from weakref import WeakValueDictionary

from unisono.base.errors import Unavailable


class Bells:
    """One event a key; a ring between looking and waiting is not lost because the ticket is taken first.

    A bell is there only while somebody holds its ticket: what is asked for by any name costs nothing later.
    """

    def __init__(self) -> None:
        self._rung: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._closed = False

    def ticket(self, key: str) -> asyncio.Event:
        """Take this before looking at the state.  Raises Unavailable once closed."""
        self._check()
        return self._rung.setdefault(key, asyncio.Event())

    def close(self) -> None:
        """Send everybody away: the coordinator is stopping."""
        self._closed = True
        self.ring(list(self._rung))

    def ring(self, keys: Iterable[str]) -> None:
        """Wake whoever holds a ticket of these."""
        for key in keys:
            event = self._rung.pop(key, None)
            if event is not None:
                event.set()

    async def wait(self, ticket: asyncio.Event, seconds: float) -> None:
        """Return when rung or after `seconds`.  Raises Unavailable once closed."""
        try:
            async with asyncio.timeout(seconds):
                await ticket.wait()
        except TimeoutError:
            return
        self._check()

    def _check(self) -> None:
        if self._closed:
            raise Unavailable("the coordinator is stopping; it goes on when it is started again", 1.0)
