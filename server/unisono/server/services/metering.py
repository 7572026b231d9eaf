"""Measures every call: how long it took, and which status it ended with.

Around the methods themselves, since an interceptor of gRPC's costs ten times as much.  Labels are our own
methods and gRPC's statuses; what nobody serves is not counted, so no peer can make up a label.
"""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

from inspect import isasyncgenfunction
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from unisono.telemetry.meters import Meters

S = TypeVar("S")
NAMES = {code.value[0]: code.name.lower() for code in grpc.StatusCode}


def measured(service: S, meters: Meters) -> S:
    """Return the service, each of its calls measured: what has a name with a capital, as in the protos."""
    for name in dir(type(service)):
        if name[0].isupper():
            method = getattr(service, name)
            wrap = _stream if isasyncgenfunction(method) else _unary
            setattr(service, name, wrap(method, name, meters))
    return service


def _unary(method: Callable[..., Awaitable[Any]], name: str, meters: Meters) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        began = perf_counter()
        try:
            return await method(request, context)
        finally:
            meters.call(name, _status(context), perf_counter() - began)

    return call


def _stream(
    method: Callable[..., AsyncIterator[Any]], name: str, meters: Meters
) -> Callable[..., AsyncIterator[Any]]:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        began = perf_counter()
        try:
            async for reply in method(request, context):
                yield reply
        finally:
            meters.call(name, _status(context), perf_counter() - began)

    return call


def _status(context: Any) -> str:
    code = context.code() or 0
    return NAMES.get(code if isinstance(code, int) else code.value[0], "unknown")
