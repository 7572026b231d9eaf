"""A connection of the ops port that cannot be held for nothing.

uvicorn waits for a request as long as its sender likes, and takes as many connections as there are files:
whoever reaches the port, token or not, could hold every file that the coordinator may open.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0  # seconds without a new request, and without a byte of an answer that is taken
MOST_OPEN = 128  # one more is closed as it comes; half as many are answered


class Connection(H11Protocol):
    """One connection, which a timer ends.  A stream of events has its own limit, and goes on."""

    _timer: asyncio.TimerHandle | None = None
    _seen: tuple[object, int] = (None, 0)  # the last request, and what its reader has yet to take

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > MOST_OPEN:
            transport.abort()
            return
        self._timer = self.loop.call_later(PATIENCE, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close it, unless it is being answered or something moved since the last look."""
        found = self.cycle, self.transport.get_write_buffer_size()
        is_answered = self.cycle is not None and not self.cycle.response_complete
        if found == self._seen and not is_answered:
            self.transport.abort()
            return
        self._seen = found
        self._timer = self.loop.call_later(PATIENCE, self._look)
