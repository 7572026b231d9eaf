"""A line before what is dear to make: some answers at a time, and none for those who have left it.

uvicorn goes on with a request whose connection is gone.  Who asks and hangs up, again and again, would have
each answer made for nobody, and everybody else wait behind them for as long as that takes.
"""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

MOST_WAITING = 256  # more than there are connections: only those who have left make so many


class Line:
    """First come, first served."""

    def __init__(self, at_once: int) -> None:
        self._turns, self._waiting = asyncio.Semaphore(at_once), 0

    async def answer(self, request: Request, made: Callable[[], Awaitable[Response]]) -> Response:
        """Return what `made` makes when it is this request's turn."""
        if self._waiting >= MOST_WAITING:
            return Response(f"{self._waiting} wait for an answer already", 503, {"retry-after": "1"})
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            if await request.is_disconnected():
                return Response(status_code=503)  # nobody reads it
            return await made()
        finally:
            self._turns.release()
