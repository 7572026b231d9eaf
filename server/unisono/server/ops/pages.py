"""The dashboard's files: read once, kept in memory.  A path that is not among them does not exist."""

import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from unisono.crypto import sha256_hex

PAGES = ("/", "/progress", "/federation", "/left-the-sites")  # all one file; its script looks at the path
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    body: bytes
    kind: str
    tag: str


def routes() -> list[Route]:
    """Return a route a page and a file."""
    found = dict(_files(files("unisono.server.ops") / "static", "/static/"))
    index = found.pop("/static/index.html")
    served = found | dict.fromkeys(PAGES, index)
    return [Route(path, _endpoint(file), methods=["GET"]) for path, file in served.items()]


def _endpoint(file: File):  # type: ignore[no-untyped-def]
    async def answer(request: Request) -> Response:
        headers = {"etag": file.tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, 200, headers, file.kind)

    return answer


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, File]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
            continue
        body = entry.read_bytes()
        suffix = entry.name[entry.name.rfind(".") :]
        kind = KINDS.get(suffix) or mimetypes.guess_type(entry.name)[0] or "text/plain"
        yield f"{prefix}{entry.name}", File(body, kind, f'"{sha256_hex(body)[:16]}"')
