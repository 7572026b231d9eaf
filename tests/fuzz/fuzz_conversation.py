"""Conversations of real sites, as bytes; what a liar makes of them; and calls that send just those bytes."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from federation_world import Caller

STREAMED_UP, STREAMED_DOWN = ("Upload",), ("Download", "WatchRun")
HUGE = (2**64 - 1, 2**63, 2**32, 2**31 - 1, 0)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Said:
    """One call: the method, and its messages."""

    method: str
    messages: tuple[bytes, ...]


class _One(grpc.aio.UnaryUnaryClientInterceptor):
    """Writes down what is said in one message and answered by one."""

    def __init__(self, said: list[Said]) -> None:
        self._said = said

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self._said.append(Said(_text(client_call_details.method), (request.SerializeToString(),)))
        return await continuation(client_call_details, request)


class _Down(grpc.aio.UnaryStreamClientInterceptor):
    """Writes down what is answered by many."""

    def __init__(self, said: list[Said]) -> None:
        self._said = said

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self._said.append(Said(_text(client_call_details.method), (request.SerializeToString(),)))
        return await continuation(client_call_details, request)


class _Up(grpc.aio.StreamUnaryClientInterceptor):
    """Writes down what is said in many messages."""

    def __init__(self, said: list[Said]) -> None:
        self._said = said

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        async def heard() -> AsyncIterator[Any]:
            sent = []
            async for message in request_iterator:
                sent.append(message.SerializeToString())
                yield message
            self._said.append(Said(_text(client_call_details.method), tuple(sent)))

        return await continuation(client_call_details, heard())


def recorded(caller: Caller) -> list[Said]:
    """Let a caller's next connection be one that is written down; return where."""
    said: list[Said] = []
    credentials = grpc.ssl_channel_credentials(caller.ca, caller.key.to_pem(), caller.certificate)
    options = (("grpc.use_local_subchannel_pool", 1),)
    listeners = [_One(said), _Down(said), _Up(said)]
    target = f"localhost:{caller.port}"
    channel = grpc.aio.secure_channel(target, credentials, options=options, interceptors=listeners)
    caller.channels.append(channel)
    return said


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method


async def sent(caller: Caller, said: Said, seconds: float) -> grpc.StatusCode:
    """Send these bytes; return how the coordinator ended the call."""
    name = said.method.rpartition("/")[2]

    async def stream() -> AsyncIterator[bytes]:
        for message in said.messages:
            yield message

    first = said.messages[0] if said.messages else b""
    channel: Any = caller.channel  # of bytes, not of messages
    try:
        if name in STREAMED_UP:
            await channel.stream_unary(said.method)(stream(), timeout=seconds)
        elif name in STREAMED_DOWN:
            call = channel.unary_stream(said.method)(first, timeout=seconds)
            async for _ in call:
                break
            call.cancel()
        else:
            await channel.unary_unary(said.method)(first, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def mutated(said: Said, others: list[Said], names: tuple[str, ...], rng: random.Random) -> Said:
    """Return what a liar makes of a call."""
    messages = list(said.messages)
    match rng.randrange(6):
        case 0:
            messages = messages[: rng.randrange(len(messages) + 1)]
        case 1 if messages:
            messages.insert(rng.randrange(len(messages) + 1), rng.choice(messages))
        case 2:
            rng.shuffle(messages)
        case 3:
            return Said(rng.choice(others).method, tuple(messages))
        case 4:
            messages = list(rng.choice(others).messages)
    if messages:
        place = rng.randrange(len(messages))
        messages[place] = changed(messages[place], names, rng)
    return Said(said.method, tuple(messages))


def changed(message: bytes, names: tuple[str, ...], rng: random.Random) -> bytes:
    """Return a message that was changed in one place: its bits, its fields, a number, a name."""
    match rng.randrange(5):
        case 0:
            return _flipped(message, rng)
        case 1:
            old, new = rng.sample(names, 2)
            return message.replace(old.encode(), new.encode())
        case 2:
            return message[: rng.randrange(len(message) + 1)]
        case _:
            return _rewritten(message, rng)


def _flipped(message: bytes, rng: random.Random) -> bytes:
    data = bytearray(message)
    for _ in range(rng.randrange(1, 4)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _rewritten(message: bytes, rng: random.Random) -> bytes:
    """Drop, double, exchange or overwrite one field of a message, or of a message in it."""
    parts = list(fields(message))
    if not parts:
        return _flipped(message, rng)
    at = rng.randrange(len(parts))
    number, kind, value = parts[at]
    match rng.randrange(5):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[at])
        case 2:
            rng.shuffle(parts)
        case 3 if kind == _VARINT:
            parts[at] = number, kind, _varint(rng.choice(HUGE))
        case 3:
            parts[at] = number, kind, rng.randbytes(len(value))
        case _ if kind == _BYTES:
            parts[at] = number, kind, _rewritten(value, rng)
    return b"".join(
        _varint(number << 3 | kind) + (_varint(len(value)) if kind == _BYTES else b"") + value
        for number, kind, value in parts
    )


def fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number, kind, value) of each field of a message, as far as it is one."""
    at = 0
    while at < len(message):
        try:
            tag, at = _read(message, at)
            number, kind = tag >> 3, tag & 7
            start = at
            if kind == _VARINT:
                _, at = _read(message, at)
            elif kind == _BYTES:
                length, start = _read(message, at)
                at = start + length
            elif kind in {_FIXED64, _FIXED32}:
                at += 8 if kind == _FIXED64 else 4
            else:
                return
        except IndexError:
            return
        if not number or at > len(message):
            return
        yield number, kind, message[start:at]


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
