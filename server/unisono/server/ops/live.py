"""What goes on, as server-sent events: one picture of all active runs, again whenever it has changed.

One picture is made for all readers, at most every `PAUSE` and never for more than a small part of the loop's
time; a reader that comes late gets the newest and misses those between.  A reader that takes nothing for
`PATIENCE` is dropped.  Nothing is spawned: each reader's own request looks at the clock.
"""

import asyncio
import json
from collections import Counter
from time import perf_counter

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unisono.server.runtime.hall import Hall
from unisono.server.runtime.lineage import Lineage
from unisono.server.runtime.views import ClientRow, status_of

PAUSE = 0.5  # seconds between two pictures
SHARE = 0.01  # of the loop's time that pictures may take: expensive ones are made less often
PATIENCE = 10.0
HEARTBEAT = 15.0  # seconds: proxies and readers notice that the line is alive
MOST_READERS = 32
MOST_ROWS = 200  # clients of a run in a picture: those who are waited for first
_ORDER = {"working": 0, "looking": 1, "invited": 2, "lost": 3, "failed": 4, "declined": 5, "uploaded": 6}


class Live:
    """The stream of /api/v1/events."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._picture: bytes = b""
        self._number = 0
        self._made, self._next = float("-inf"), float("-inf")
        self.readers = 0
        self.closed = asyncio.Event()

    def close(self) -> None:
        """End all streams."""
        self.closed.set()

    async def open(self, request: Request) -> Response:
        """Answer one reader."""
        if self.readers >= MOST_READERS or self.closed.is_set():
            words = f"{MOST_READERS} readers are connected" if self.readers else "the coordinator is stopping"
            return Response(words, 503, {"retry-after": "5"}, "text/plain")
        return _Stream(self)

    def picture(self) -> tuple[int, bytes]:
        """Return the newest picture and its number, made anew if it is old."""
        now = self._hall.clock.ticks()
        if now >= self._next:
            began = perf_counter()
            body = json.dumps(self._look(), separators=(",", ":")).encode()
            if body != self._picture:
                self._picture, self._number = body, self._number + 1
            self._next = now + max(PAUSE, (perf_counter() - began) / SHARE)
        return self._number, self._picture

    def enter(self) -> None:
        self.readers += 1

    def leave(self) -> None:
        self.readers -= 1

    def _look(self) -> dict[str, object]:
        hall = self._hall
        return {
            "federation": hall.authority.federation,
            "clients_online": len(hall.presence.online()),
            "clients_enrolled": hall.ledger.enrolled(),
            "runs": [self._run(lineage) for lineage in hall.runs.values()],
        }

    def _run(self, lineage: Lineage) -> dict[str, object]:
        status = status_of(self._hall, lineage)
        rows = status["clients"]
        phase, since = self._hall.phases.get(lineage.id, ("", self._hall.clock.ticks()))
        return {
            "id": lineage.id,
            "protection": lineage.plan.protection.mode,
            "published": lineage.run.round,
            "idle_seconds": lineage.plan.rounds.idle_seconds,
            "phase_seconds": round(self._hall.clock.ticks() - since, 1),
            **status,
            "phase": status["phase"] or phase,
            "clients": sorted(rows, key=_rank)[:MOST_ROWS],
            "counts": dict(Counter(row["state"] for row in rows)),
        }


class _Stream(Response):
    """One reader's answer."""

    def __init__(self, live: Live) -> None:
        super().__init__(headers={"cache-control": "no-store"}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        self._live.enter()
        try:
            await self._pictures(Request(scope, receive), send)
            await send({"type": "http.response.body"})
        except (TimeoutError, ClientDisconnect, OSError):
            pass  # dropped, or gone: it connects anew
        finally:
            self._live.leave()

    async def _pictures(self, request: Request, send: Send) -> None:
        seen, quiet = 0, 0.0
        while not self._live.closed.is_set() and not await request.is_disconnected():
            number, picture = self._live.picture()
            if number != seen:
                seen, quiet = number, 0.0
                await _sent(send, b"id: %d\nevent: now\ndata: %s\n\n" % (number, picture))
            elif quiet >= HEARTBEAT:
                quiet = 0.0
                await _sent(send, b": still here\n\n")
            quiet += PAUSE
            try:
                async with asyncio.timeout(PAUSE):
                    await self._live.closed.wait()
            except TimeoutError:
                continue


async def _sent(send: Send, data: bytes) -> None:
    """Send, unless the reader takes nothing.  Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        await send({"type": "http.response.body", "body": data, "more_body": True})


def _rank(row: ClientRow) -> tuple[int, float, str]:
    return _ORDER.get(row["state"], 9), -row["silent_seconds"], row["name"]
