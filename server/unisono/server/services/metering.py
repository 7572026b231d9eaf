"""Measures every call: how long it took, and which status it ended with.

An interceptor, since the guard does not know the method.  Its labels are our own methods and gRPC's statuses;
what nobody serves is not counted, so no peer can make up a label.
"""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

from time import perf_counter
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from unisono.telemetry.meters import Meters

Handler = grpc.RpcMethodHandler
NAMES = {code.value[0]: code.name.lower() for code in grpc.StatusCode}


class Metering(grpc.aio.ServerInterceptor):
    """Wraps each handler once; a call then costs two looks at the clock more."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._wrapped: dict[str, tuple[Any, Any]] = {}  # by method: the handler, and its wrapping

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None:
            known = self._wrapped[method] = handler, self._wrap(handler, method.rpartition("/")[2])
        return known[1]

    def _wrap(self, handler: Any, name: str) -> Any:
        way = (handler.request_streaming, handler.response_streaming)
        coders = (handler.request_deserializer, handler.response_serializer)
        match way:
            case (False, False):
                return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary, name), *coders)
            case (True, False):
                return grpc.stream_unary_rpc_method_handler(self._unary(handler.stream_unary, name), *coders)
            case (False, True):
                return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, name), *coders)
            case _:
                return handler

    def _unary(self, behaviour: Any, name: str) -> Any:
        async def measured(request: Any, context: Any) -> Any:
            began = perf_counter()
            try:
                return await behaviour(request, context)
            finally:
                self._note(name, context, perf_counter() - began)

        return measured

    def _stream(self, behaviour: Any, name: str) -> Any:
        async def measured(request: Any, context: Any) -> AsyncIterator[Any]:
            began = perf_counter()
            try:
                async for reply in behaviour(request, context):
                    yield reply
            finally:
                self._note(name, context, perf_counter() - began)

        return measured

    def _note(self, name: str, context: Any, seconds: float) -> None:
        code = context.code() or 0
        known = NAMES.get(code if isinstance(code, int) else code.value[0], "unknown")
        self._meters.call(name, known, seconds)
