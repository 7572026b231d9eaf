"""The documents of the `--json` commands over HTTP, and some that only the dashboard asks for."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from unisono.base.errors import BadMessage, Error, NotFound, Refused, Unavailable
from unisono.base.ids import RunId
from unisono.identity import spoken
from unisono.server.rounds import pins
from unisono.server.rounds.inviting import manifest
from unisono.server.runtime.hall import Hall
from unisono.server.runtime.operators import Document, Operators
from unisono.server.store import Window

from .line import Line

log = structlog.get_logger("unisono.ops")
Ask = Callable[[Request], Awaitable[Document]]
MAX_LIMIT = 1000
AT_ONCE = 2  # documents in the making: the threads are there for rounds first
KEPT = 5.0  # seconds that a look at all updates is good for
_RUN = re.compile(r"r-\d{4,9}")


class Documents:
    """Answers /api/v1/..."""

    def __init__(self, hall: Hall, operators: Operators) -> None:
        self._hall, self._operators = hall, operators
        self._participation: tuple[float, Document] = (float("-inf"), {})
        self._line = Line(AT_ONCE)

    def routes(self) -> list[Route]:
        """Return a route a document."""
        asked: Mapping[str, Ask] = {
            "/api/v1/health": lambda request: self._operators.health(),
            "/api/v1/runs": lambda request: self._operators.runs(),
            "/api/v1/runs/{run}": self._run,
            "/api/v1/runs/{run}/events": self._events,
            "/api/v1/runs/{run}/rounds": self._rounds,
            "/api/v1/runs/{run}/releases": self._releases,
            "/api/v1/runs/{run}/models": lambda request: self._operators.models(_run_of(request)),
            "/api/v1/runs/{run}/roster": self._roster,
            "/api/v1/clients": lambda request: self._operators.clients(),
            "/api/v1/participation": lambda request: self._all_updates(),
            "/api/v1/tokens": lambda request: self._operators.tokens(),
            "/api/v1/audit": self._audit,
        }
        return [Route(path, self._answering(ask), methods=["GET"]) for path, ask in asked.items()]

    def _answering(self, ask: Ask) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._line.answer(request, lambda: made(request))

        async def made(request: Request) -> Response:
            status = 200
            try:
                document = await ask(request)
            except Error as error:
                status, document = _status(error), _told(error.code, str(error))
            except Exception:  # a bug in a view is an answer, and a line in the log
                log.exception("ops_request_failed", path=request.url.path[:200])
                status, document = 500, _told("internal", "internal error; the coordinator's log has it")
            body = await self._hall.workers.file(_written, document)
            return Response(body, status, {"cache-control": "no-store"}, "application/json")

        return answer

    async def _run(self, request: Request) -> Document:
        window = Window(_number(request, "first"), _number(request, "last"))
        return await self._operators.show(_run_of(request), window)

    async def _events(self, request: Request) -> Document:
        limit = min(_number(request, "limit", 200), MAX_LIMIT)
        arguments = (_run_of(request), _number(request, "after"), max(1, limit))
        return {"events": await self._hall.workers.file(self._hall.store.events, *arguments)}

    async def _rounds(self, request: Request) -> Document:
        """All rounds, however many, without the names of who took part.  Not in the database's thread."""
        run = _run_of(request) or await self._hall.workers.database(self._hall.store.latest)
        return await self._hall.workers.file(self._hall.store.brief_rounds, run)

    async def _releases(self, request: Request) -> Document:
        run = _run_of(request) or await self._hall.workers.database(self._hall.store.latest)
        return await self._hall.workers.file(self._hall.store.releases, run)

    async def _audit(self, request: Request) -> Document:
        limit = min(_number(request, "limit", 100), MAX_LIMIT)
        return await self._operators.audit(_number(request, "before"), max(1, limit))

    async def _roster(self, request: Request) -> Document:
        """Say whom a run froze its roster to, and the digest that sites compare on the phone."""
        nothing: Document = {"run": None, "digest": None, "spoken": None, "clients": []}
        run = _run_of(request)
        try:
            run = run or await self._hall.workers.database(self._hall.store.latest)
        except NotFound:
            return nothing
        stored = await self._hall.workers.database(self._hall.store.load, run)
        if not stored.run.roster or not stored.run.identities:
            return {**nothing, "run": run}
        digest = manifest(stored.run)
        sites = [{"name": pin.name, "key_sha256": pin.key} for pin in pins(stored.run)]
        return {"run": run, "digest": digest, "spoken": spoken(digest), "clients": sites}

    async def _all_updates(self) -> Document:
        """Say what each client did so far.  Not in the database's thread: it may read many rows."""
        made, found = self._participation
        now = self._hall.clock.ticks()
        if now - made > KEPT:
            found = await self._hall.workers.file(self._hall.store.participation)
            self._participation = now, found
        return found


def _run_of(request: Request) -> RunId:
    """Read which run is meant; "latest" is the newest."""
    text = request.path_params["run"]
    if text == "latest":
        return RunId("")
    if not _RUN.fullmatch(text):
        raise NotFound("no such run; one is called r-0001")
    return RunId(text)


def _number(request: Request, key: str, default: int = 0) -> int:
    text = request.query_params.get(key)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 12:
        raise BadMessage(f"{key} must be a number")
    return int(text)


def _status(error: Error) -> int:
    match error:
        case NotFound():
            return 404
        case BadMessage():
            return 400
        case Unavailable():
            return 503
        case Refused():
            return 409
        case _:
            return 500


def _told(code: str, message: str) -> Document:
    return {"error": {"code": code, "message": message}}


def _written(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
