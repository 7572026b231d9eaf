"""A connection of the ops port that cannot be held for nothing.

uvicorn waits for a request, or for a reader of its answer, as long as the other side likes, and takes as many
connections as there are files: whoever reaches the port, token or not, could hold every file that the
coordinator may open.  With a limit alone they would keep out everybody else, health checks among them: so one
that comes takes the place of the one that has been idle, or in the line for a document, the longest.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0  # seconds without a new request, and without a byte of an answer that is taken
MOST_OPEN = 128  # one more takes the place of another; where all are being answered, it is closed

CHECKS = ("/healthz", "/readyz")


class Connection(H11Protocol):
    """One connection, which a timer ends.  A stream of events has its own limit, and goes on."""

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # when it came, or was last seen to move
    _seen: tuple[object, int] = (None, 0)  # the last request, and what its reader has yet to take

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._since = self.loop.time()
        self._timer = self.loop.call_later(PATIENCE, self._look)
        if len(self.connections) > MOST_OPEN:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    @property
    def _is_answered(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _may_go(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or not self.cycle.response_started

    @property
    def _is_check(self) -> bool:
        """Tell whether it asks how the coordinator is: the answer may wait for the database for seconds."""
        return self._is_answered and self.scope["path"] in CHECKS

    def _make_room(self) -> None:
        """Close the one that has been idle, or has waited for its answer to begin, the longest.

        Both alike: a health check that was just accepted is idle, and the youngest.  One that has asked goes
        last.  This one is closed only if all others are being answered.
        """
        others = (c for c in self.connections if isinstance(c, Connection) and c is not self)
        idle = min((c for c in others if c._may_go), key=lambda c: (c._is_check, c._since), default=self)
        self.connections.discard(idle)  # the next to come would count it: it is told of its end later
        idle.transport.abort()

    def _look(self) -> None:
        """Close it, unless it waits for our answer or something moved since the last look."""
        waiting = self.transport.get_write_buffer_size()
        found = self.cycle, waiting
        if found == self._seen and (waiting or not self._is_answered):
            self.transport.abort()
            return
        if found != self._seen:
            self._since = self.loop.time()
        self._seen = found
        self._timer = self.loop.call_later(PATIENCE, self._look)
