"""Which path leads where."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from unisono.server.runtime.hall import Hall
from unisono.server.runtime.operators import Operators

from . import pages
from .documents import Documents
from .door import Door
from .gauges import Gauges
from .health import Certificate, Ready, ready
from .line import Line
from .live import Live

FRESH = 1.0  # seconds that a look at the health is good for: whoever reaches the port may ask for it


class Ops:
    """All that the port answers with."""

    def __init__(
        self, hall: Hall, operators: Operators, certificate: Certificate, token: bytes = b""
    ) -> None:
        self._hall, self._certificate, self._token = hall, certificate, token
        self._documents = Documents(hall, operators)
        self._gauges = Gauges(hall, certificate)
        self._scrapes = Line(at_once=1)
        self._looking = asyncio.Lock()
        self._looked: tuple[float, Ready] | None = None
        self.live = Live(hall)

    def application(self) -> ASGIApp:
        """Return what answers."""
        routes = [
            Route("/healthz", self._alive, methods=["GET"]),
            Route("/readyz", self._ready, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/api/v1/events", self.live.open, methods=["GET"]),
            *self._documents.routes(),
            *pages.routes(),
        ]
        inside = Starlette(routes=routes, exception_handlers={404: _unknown})
        inside.router.redirect_slashes = False
        return Door(inside, (*self._hall.config.hosts, self._hall.config.ops_host), self._token)

    async def _alive(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})

    async def _ready(self, request: Request) -> Response:
        found = await self._health()
        status = 200 if found["status"] == "ready" else 503
        return JSONResponse(found, status, {"cache-control": "no-store"})

    async def _health(self) -> Ready:
        """Look once for all who ask within a second: each look waits for the database's thread."""
        async with self._looking:
            if self._looked is None or self._hall.clock.ticks() - self._looked[0] > FRESH:
                found = await ready(self._hall, self._certificate)
                self._looked = self._hall.clock.ticks(), found
            return self._looked[1]

    async def _metrics(self, request: Request) -> Response:
        return await self._scrapes.answer(request, self._exposed)

    async def _exposed(self) -> Response:
        body = await self._gauges.exposition()
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(body, 200, {"cache-control": "no-store"}, kind)


def _unknown(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"code": "not_found", "message": "there is nothing here"}}, 404)
