"""An in-process network at gRPC's own seam: the client's real stubs here, the real handlers there.

Every message is the bytes that would travel.  A client runs in a greenlet and blocks as a real one does: it
hands the world what it waits for (`Want`), and the world decides what arrives, when, twice, or never.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from greenlet import getcurrent

if TYPE_CHECKING:
    from sim_house import House

STALL = 60.0  # virtual seconds without a byte, after which a client gives a transfer up


class Aborted(Exception):
    """What a handler ends its call with."""

    def __init__(self, code: grpc.StatusCode, text: str, metadata: tuple[tuple[str, str], ...]) -> None:
        super().__init__(text)
        self.code, self.text, self.metadata = code, text, metadata


class Broken(grpc.RpcError, grpc.Call):
    """A failed call as gRPC's client reports it; without metadata it is the connection's own word."""

    def __init__(self, code: grpc.StatusCode, text: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._code, self._text, self._metadata = code, text, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text

    def trailing_metadata(self) -> Any:
        return self._metadata

    def initial_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False


def cut() -> Broken:
    return Broken(grpc.StatusCode.UNAVAILABLE, "Socket closed")


@dataclass(eq=False)
class Call:
    """One call of one client: what was sent, what came back."""

    site: str
    method: str
    certificate: bytes
    expires: float
    stall: bool = False  # `expires` is about the next byte, not the whole
    house: "House | None" = None  # the process that it reached
    task: "asyncio.Task[None] | None" = None
    chunks: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    pieces: deque[bytes] = field(default_factory=deque)  # of a download, on their way down
    reply: bytes | None = None
    over: bool = False
    error: Broken | None = None
    deaf: bool = False  # the reply will be lost

    def copy(self) -> "Call":
        return Call(self.site, self.method, self.certificate, self.expires)

    @property
    def lost(self) -> bool:
        """Whether the process that it reached is gone."""
        return self.house is not None and self.house.dead


@dataclass
class Sleep:
    """Nothing until then."""

    until: float


@dataclass
class Ask:
    """Send this; None ends a stream."""

    call: Call
    raw: bytes | None


@dataclass
class Await:
    """Wait for the reply, or for the next piece."""

    call: Call


Want = Sleep | Ask | Await


def want(what: Want) -> Any:
    """Hand the world what this client waits for; return what came of it, or raise it."""
    parent = getcurrent().parent
    assert parent is not None
    return parent.switch(what)


class Channel:
    """What the generated stubs need of a grpc.Channel."""

    def __init__(self, site: str, certificate: bytes, now: Callable[[], float]) -> None:
        self._site, self._certificate, self._now = site, certificate, now
        self.closed = False

    def open(self, method: str, timeout: float, *, stall: bool = False) -> Call:
        return Call(self._site, method, self._certificate, self._now() + timeout, stall)

    def close(self) -> None:
        self.closed = True

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> "Unary":
        return Unary(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> "StreamUp":
        return StreamUp(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: object,
    ) -> "StreamDown":
        return StreamDown(self, method, request_serializer, response_deserializer)


@dataclass
class _Method:
    channel: Channel
    method: str
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


class Unary(_Method):
    """A call with one request and one reply."""

    def __call__(self, request: Any, timeout: float) -> Any:
        call = self.channel.open(self.method, timeout)
        want(Ask(call, self.write(request)))
        return self.read(want(Await(call)))

    def future(self, request: Any, timeout: float) -> "_Future":
        return _Future(lambda: self(request, timeout))


class StreamUp(_Method):
    """An upload."""

    def future(self, messages: Iterator[Any]) -> "_Future":
        return _Future(lambda: self._send(messages))

    def _send(self, messages: Iterator[Any]) -> Any:
        call = self.channel.open(self.method, STALL, stall=True)
        for message in messages:
            want(Ask(call, self.write(message)))
            if call.over:
                break
        else:
            want(Ask(call, None))
        return self.read(want(Await(call)))


class StreamDown(_Method):
    """A download."""

    def __call__(self, request: Any) -> "_Pieces":
        return _Pieces(self, request)


class _Pieces:
    def __init__(self, method: StreamDown, request: Any) -> None:
        self._method, self._request = method, request

    def __iter__(self) -> Iterator[Any]:
        call = self._method.channel.open(self._method.method, STALL, stall=True)
        want(Ask(call, self._method.write(self._request)))
        while (raw := want(Await(call))) is not None:
            yield self._method.read(raw)

    def cancel(self) -> None: ...


class _Future:
    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    def result(self) -> Any:
        return self._run()

    def cancel(self) -> None: ...


class Server:
    """What `services.server.build` needs of a grpc.aio server: it collects the handlers."""

    def __init__(self) -> None:
        self.methods: dict[str, Any] = {}
        self.wrong: list[Exception] = []  # what a handler raised past its guard
        self._generic: list[Any] = []

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        self._generic += handlers

    def find(self, method: str) -> Any:
        if method not in self.methods:
            details = _Details(method)
            found = (handler.service(details) for handler in self._generic)
            self.methods[method] = next(handler for handler in found if handler is not None)
        return self.methods[method]

    async def answer(self, call: Call, raw: bytes | None) -> None:
        """Run the handler of a call."""
        handler, context = self.find(call.method), Context(call)
        try:
            requests = _requests(call, raw, handler.request_deserializer)
            if handler.stream_stream is not None:
                async for piece in handler.stream_stream(requests, context):
                    call.pieces.append(handler.response_serializer(piece))
            else:
                call.reply = handler.response_serializer(await handler.stream_unary(requests, context))
        except Aborted as aborted:
            call.error = Broken(aborted.code, aborted.text, aborted.metadata)
        except asyncio.CancelledError:
            call.error = cut()
            raise
        except Exception as error:
            call.error = Broken(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")
            self.wrong.append(error)
        finally:
            call.over = True


@dataclass
class _Details:
    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


class Context:
    """What a handler sees of its call."""

    def __init__(self, call: Call) -> None:
        self._call, self._code = call, 0

    def code(self) -> int:
        return self._code

    def auth_context(self) -> dict[str, tuple[bytes, ...]]:
        return {"x509_pem_cert": (self._call.certificate,)}

    def peer(self) -> str:
        return f"sim:{self._call.site}"

    def time_remaining(self) -> float | None:
        return None

    async def abort(
        self, code: grpc.StatusCode, text: str, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._code = code.value[0]
        raise Aborted(code, text, metadata)


async def _requests(call: Call, raw: bytes | None, read: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """Yield the one request of a call, or the chunks of an upload as they come."""
    if raw is not None:
        yield read(raw)
        return
    while (raw := await call.chunks.get()) is not None:
        yield read(raw)
