"""Bytes that are not the message they should be: refused like everything else that a peer does wrong.

gRPC reads a request before any handler of ours sees it.  What it cannot read ends as UNKNOWN, with a
traceback in the log and without a word on who sent it.  Here the handler is called all the same, with
something in the request's place that raises BadMessage as soon as it is looked at: inside the guard, which
knows the rest.
(Found by fuzzing over gRPC.)

Nor does gRPC ask who sends a request, or wait for it for a limited time: calls whose request never came held
all places there are, also for whoever was revoked.  So each call is served as one whose request is a stream
of one: its handler runs from the first byte, and has the caller judged before it reads.
"""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from unisono.base.errors import BadMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from .guard import Guard


class Unreadable:
    """Stands where a request should."""

    def __init__(self, method: str, size: int) -> None:
        self._method, self._size = method, size

    def __getattr__(self, name: str) -> NoReturn:
        raise BadMessage(f"these {self._size} bytes are no message for {self._method.rpartition('/')[2]}")


class Registrar:
    """Takes the place of the server where services are added to it."""

    def __init__(self, server: grpc.aio.Server, guard: Guard) -> None:
        """`guard`: for whoever may call anything."""
        self._server, self._guard = server, guard

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Add them, so that they see what could not be read, and from whom something is to be read."""
        self._server.add_generic_rpc_handlers(tuple(_Reading(each, self._guard) for each in handlers))

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Pass over the same handlers once more: an asyncio server has no use for them."""


class _Reading(grpc.GenericRpcHandler):
    def __init__(self, inner: Any, guard: Guard) -> None:
        self._inner, self._guard = inner, guard
        self._known: dict[str, Any] = {}  # by method of ours: a stranger's is None and not kept

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method not in self._known:
            found = self._inner.service(handler_call_details)
            if found is None:
                return None
            reading = found._replace(request_deserializer=_reading(found.request_deserializer, method))
            self._known[method] = _judged(reading, self._guard)
        return self._known[method]


def _judged(handler: Any, guard: Guard) -> Any:
    """Return the handler as one that reads its request itself, if the guard lets it."""
    if handler.request_streaming:
        return handler  # it asks its guard before it reads

    async def unary(requests: AsyncIterator[Any], context: Any) -> Any:
        return await handler.unary_unary(await guard.first(context, requests), context)

    async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        request = await guard.first(context, requests)
        async with aclosing(handler.unary_stream(request, context)) as replies:
            async for reply in replies:
                yield reply

    if handler.response_streaming:
        return handler._replace(request_streaming=True, unary_stream=None, stream_stream=stream)
    return handler._replace(request_streaming=True, unary_unary=None, stream_unary=unary)


def _reading(read: Callable[[bytes], object], method: str) -> Callable[[bytes], object]:
    def forgiving(data: bytes) -> object:
        try:
            return read(data)
        except DecodeError:
            return Unreadable(method, len(data))

    return forgiving
