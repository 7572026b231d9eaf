"""Who is let in.  Before any handler: methods, sizes, names, origins, token; after it, headers for browsers.

A page on the internet can make a browser of this machine ask us (CSRF), or give its own name our address and
then read the answer (DNS rebinding).  So a request has to name us by an address, as localhost or by a name
from `hosts`, and a browser that says that another site asks is refused.
"""

import json
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unisono.crypto import same

log = structlog.get_logger("unisono.ops")
MAX_HEADERS = 16 << 10
METHODS = ("GET", "HEAD")
CLOSE = (b"connection", b"close")
GUARDED = ("/api/", "/metrics")  # what the token is for; pages hold no data, probes have no token
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = tuple(
    (name.encode(), value.encode())
    for name, value in (
        ("content-security-policy", POLICY),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    )
)


class Refusal(NamedTuple):
    """An answer before any handler."""

    status: int
    code: str
    words: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Door:
    """Stands before the application."""

    def __init__(self, inside: ASGIApp, hosts: Iterable[str], token: bytes) -> None:
        self._inside, self._token = inside, token
        self._names = {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(refusal, scope["method"], send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        try:
            await self._inside(scope, receive, with_headers)
        except Exception:  # uvicorn's own line is turned off with its lines about what strangers send
            log.exception("ops_request_failed", path=scope["path"][:200])
            raise

    def _refusal(self, scope: Scope) -> Refusal | None:
        if scope["method"] not in METHODS:
            allow = ((b"allow", ", ".join(METHODS).encode()), CLOSE)
            return Refusal(405, "method", f"{scope['method'][:20]}: this port only shows things", allow)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
            return Refusal(431, "headers", f"more than {MAX_HEADERS} bytes of headers", (CLOSE,))
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
            # Where it ends is read in two ways, by us and by a proxy: what follows could get past the proxy.
            return Refusal(400, "body", "questions to this port have no body", (CLOSE,))
        host = headers.get("host", "")
        if not self._is_ours(host):
            return Refusal(
                403, "host", "not a name of this coordinator; add it to `hosts`, or use an address"
            )
        if _from_elsewhere(headers, host):
            return Refusal(403, "origin", "asked for by a page of another site")
        if self._token and scope["path"].startswith(GUARDED) and not self._knows(headers):
            challenge = ((b"www-authenticate", b'Bearer realm="unisono"'),)
            return Refusal(401, "token", "send the token: Authorization: Bearer TOKEN", challenge)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.lower()
        name = name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return name.rstrip(".") in self._names
        return True  # nobody can make a name of an address

    def _knows(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and same(token.strip().encode(), self._token)


def _from_elsewhere(headers: Headers, host: str) -> bool:
    """Tell whether a browser says that another site asks.  A link from elsewhere may lead to a page."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return True
    site = headers.get("sec-fetch-site", "none")
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return site not in {"none", "same-origin"} and not followed


async def _refuse(refusal: Refusal, method: str, send: Send) -> None:
    body = json.dumps({"error": {"code": refusal.code, "message": refusal.words}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [*headers, *refusal.headers, *HEADERS],
        }
    )
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
