"""Wakes long polls: each client has a bell, rung when its instruction may have changed."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable


class Bells:
    """One event a key; a ring between looking and waiting is not lost because the ticket is taken first."""

    def __init__(self) -> None:
        self._rung: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def ticket(self, key: str) -> asyncio.Event:
        """Take this before looking at the state."""
        return self._rung[key]

    def ring(self, keys: Iterable[str]) -> None:
        """Wake whoever holds a ticket of these."""
        for key in keys:
            event = self._rung.pop(key, None)
            if event is not None:
                event.set()

    async def wait(self, ticket: asyncio.Event, seconds: float) -> None:
        """Return when rung or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await ticket.wait()
        except TimeoutError:
            return
