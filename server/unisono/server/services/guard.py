"""Who calls, and may they?  Wrapped around every handler: gRPC's own interceptors do not see the peer.

Revocation and expiry are looked up on every call, and inside a stream with every message, so they also end
what is open: a handshake judges a certificate once, and its connection lives for an hour and more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import perf_counter
from typing import Protocol, TypeVar

import grpc
import structlog
from structlog.contextvars import bind_contextvars

from unisono.base.errors import (
    BadCredentials,
    BadMessage,
    Error,
    NotEnrolled,
    PeerFault,
    Refused,
    Unavailable,
)
from unisono.identity import Kind, Peer, peer_of
from unisono.server.runtime.presence import HelloFirst

from .status import MOST, status_of
from .words import printable

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Context = grpc.aio.ServicerContext[object, object]
log = structlog.get_logger("unisono.rpc")
MOST_CALLS = 32  # open at once of one client, which needs three; the coordinator's are for all


class Gate(Protocol):
    """What the guard needs to know."""

    def allow(self, peer: Peer) -> None:
        """Raise NotEnrolled if this identity is unknown or revoked."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified identity behind a call."""

    peer: Peer
    address: str
    recheck: Callable[[], None]

    @property
    def name(self) -> str:
        return self.peer.name


@lru_cache(maxsize=4096)
def _peer(certificate: bytes) -> Peer:
    return peer_of(certificate)


class Crowd:
    """Counts the open calls of each client, so that none takes the places of all others.

    Also of who shows a join token, which may have many uses; not of operators.
    """

    def __init__(self, most: int = MOST_CALLS, what: str = "calls") -> None:
        self._most, self._what = most, what
        self._open: Counter[str] = Counter()

    @contextmanager
    def entered(self, peer: Peer) -> Iterator[None]:
        """Hold a place.  Raises Unavailable to a client that has its share."""
        key = f"{peer.kind}/{peer.name}"
        if peer.kind != "admin" and self._open[key] >= self._most:
            raise Unavailable(f"{peer.name} has {self._most} {self._what} open already", 1.0)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


class Guard:
    """Checks callers for one service."""

    def __init__(
        self, gate: Gate, crowd: Crowd, wall: Callable[[], float], seconds: float | None, *kinds: Kind
    ) -> None:
        """`seconds`: for an answer, also where the caller has set no deadline; None: as long as it takes."""
        self._gate, self._crowd, self._wall, self._kinds = gate, crowd, wall, kinds
        self._seconds = seconds

    def caller(self, context: Context) -> Caller:
        """Return who calls.  Raises NotEnrolled."""
        certificate = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        if certificate is None:
            raise NotEnrolled("no client certificate was shown")
        peer = _peer(certificate)
        if peer.kind not in self._kinds:
            wanted = " or ".join(self._kinds)
            raise NotEnrolled(f"a {peer.kind} certificate may not do this; it needs one of kind {wanted}")
        bind_contextvars(**{peer.kind: peer.name})  # of this call's task: every line that comes of it says so
        self._check(peer)
        return Caller(peer, context.peer(), lambda: self._check(peer))

    def _check(self, peer: Peer) -> None:
        if self._wall() > peer.not_after:
            raise _expired(peer)
        self._gate.allow(peer)

    async def unary(self, context: Context, handle: Callable[[Caller], Awaitable[Reply]]) -> Reply:
        """Run one call; every error becomes its status."""
        began = perf_counter()
        try:
            caller = self.caller(context)
            with self._crowd.entered(caller.peer):
                return await self._timely(handle(caller))
        except Exception as error:
            report(error, context, perf_counter() - began)
            await _abort(context, error)
            raise  # not reached: abort raises

    async def first(self, context: Context, requests: AsyncIterator[Request]) -> Request:
        """Return the one request of a call, from somebody who may call at all and has a place for it."""
        began = perf_counter()
        try:
            caller = self.caller(context)
            with self._crowd.entered(caller.peer):
                return await self._timely(_one(requests), "no request came")
        except Exception as error:
            report(error, context, perf_counter() - began)
            await _abort(context, error)
            raise  # not reached: abort raises

    async def _timely(self, answer: Awaitable[Reply], late: str = "no answer was ready") -> Reply:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                return await answer
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unavailable(f"{late} within {self._seconds:g} s", 1.0) from None

    async def stream(
        self, context: Context, handle: Callable[[Caller], AsyncIterator[Reply]]
    ) -> AsyncIterator[Reply]:
        """Run one call that answers with a stream."""
        began = perf_counter()
        try:
            caller = self.caller(context)
            with self._crowd.entered(caller.peer):
                async for reply in handle(caller):
                    caller.recheck()  # it may have waited long for this one
                    yield reply
        except Exception as error:
            report(error, context, perf_counter() - began)
            await _abort(context, error)


async def _one(requests: AsyncIterator[Request]) -> Request:
    found = await anext(requests, None)
    if found is None:
        raise BadMessage("a call without a request")
    return found


def _expired(peer: Peer) -> Refused:
    """Return what a caller on an old connection is told.

    A client that renewed its certificate meanwhile connects anew, and one that did not finds its own expired.
    """
    when = datetime.fromtimestamp(peer.not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
    words = f"the certificate of {peer.name} expired on {when}"
    return HelloFirst(f"{words}; connect anew") if peer.kind == "client" else BadCredentials(words)


def report(error: Exception, context: Context, seconds: float) -> None:
    """Log what was refused (quietly) and what broke (loudly)."""
    words = printable(str(error), MOST)  # some are the peer's own
    if isinstance(error, PeerFault):
        log.warning("peer_fault", peer=context.peer(), code=error.code, error=words, seconds=seconds)
    elif isinstance(error, Error):
        log.info("refused", peer=context.peer(), code=error.code, error=words, seconds=seconds)
    else:
        log.error("fault", peer=context.peer(), seconds=seconds, exc_info=error)


async def _abort(context: Context, error: Exception) -> None:
    status, text, metadata = status_of(error)
    await context.abort(status, text, metadata)
