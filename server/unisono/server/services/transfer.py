"""Bytes in and out, on the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import grpc

from unisono.base.errors import BadMessage, Unavailable
from unisono.base.ids import ClientName, Digest, RunId
from unisono.base.pacing import Pieces
from unisono.server.runtime.downloads import Downloads
from unisono.server.runtime.library import Library
from unisono.server.runtime.turns import ON_ITS_WAY, Turn, Turns
from unisono.server.runtime.uploads import Key, Uploads
from unisono.wire.chunks import SERVICE, Piece, decode, encode
from unisono.wire.v1 import transfer_pb2 as pb
from unisono.wire.v1 import types_pb2 as types

from .guard import Caller, Context, Crowd, Guard
from .stalls import timely
from .words import run_of

BEGIN_SECONDS = 10.0  # in line before the answer to Begin
PURPOSES = {types.UploadKey.UPDATE: "update", types.UploadKey.MODEL: "model"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a peer may take for a piece, how much it may fetch, and how many transfers move at a time."""

    idle_seconds: float
    turns: Turns
    downloads: Crowd


class TransferService:
    """Resumable both ways; the coordinator owns an upload's offset."""

    def __init__(
        self, uploads: Uploads, downloads: Downloads, library: Library, guard: Guard, limits: Limits
    ) -> None:
        self._uploads, self._downloads, self._library, self._guard = uploads, downloads, library, guard
        self._turns, self._idle, self._open = limits.turns, limits.idle_seconds, limits.downloads

    async def Begin(self, request: pb.BeginRequest, context: Context) -> pb.BeginReply:  # noqa: N802
        async def handle(caller: Caller) -> pb.BeginReply:
            found = await self._uploads.begin(ClientName(caller.name), key_of(request.key, caller))
            if not found.complete:
                await self._reserve(caller)
            return pb.BeginReply(offset=found.offset, complete=found.complete)

        return await self._guard.unary(context, handle)

    async def Upload(  # noqa: N802
        self, requests: AsyncIterator[Piece], context: Context
    ) -> pb.UploadReply:
        async def handle(caller: Caller) -> pb.UploadReply:
            timed = timely(requests, self._idle)
            async with self._turn(caller) as turn, aclosing(turn.paced(timed)) as pieces:
                first = await anext(pieces, None)
                if first is None:  # the connection broke before anything came
                    raise Unavailable("the upload ended before it began", 0.2)
                if first.key is None:
                    raise BadMessage("the first message of an upload must say what it is (key)")
                key = key_of(first.key, caller)
                found = await self._uploads.receive(
                    ClientName(caller.name), key, _chunks(first, pieces, key.bytes, turn), caller.recheck
                )
                return pb.UploadReply(
                    offset=found.offset,
                    complete=found.complete,
                    reconnect=found.complete and self._uploads.ends_connection(key),
                    unasked=found.complete and self._uploads.needs_no_begin(key),
                )

        return await self._guard.unary(context, handle)

    async def Download(  # noqa: N802
        self, request: pb.DownloadRequest, context: Context
    ) -> AsyncIterator[Piece]:
        async def handle(caller: Caller) -> AsyncIterator[Piece]:
            digest = digest_of(request.sha256)
            if request.offset:
                self._downloads.resumed()
            sent = await self._library.lend(caller.peer, digest, request.offset)
            sizes, clock = Pieces(), asyncio.get_running_loop().time
            with self._open.entered(caller.peer):
                async with (
                    self._turn(caller) as turn,
                    aclosing(
                        self._downloads.read(digest, request.offset, request.length, sizes, turn.take)
                    ) as pieces,
                ):
                    if request.length:  # who measures how long its bytes take begins now, not in our line
                        yield Piece(request.offset, b"")
                    async for offset, data in pieces:
                        length, began = len(data), clock()
                        sent(length)
                        # gRPC's loop and the guard's name what they sent last until they send the next.
                        with memoryview(data) as view:
                            del data
                            yield Piece(offset, view)
                        sizes.took(clock() - began, length)

        async for chunk in self._guard.stream(context, handle):
            yield chunk

    async def _reserve(self, caller: Caller) -> None:
        """Answer who wants to send when it is its turn: until then it has nothing in our buffers.

        The upload takes over its owner's turn; without one, after some seconds, it has to line up itself.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_SECONDS):
                await self._turn(caller).take(ON_ITS_WAY)

    def _turn(self, caller: Caller) -> Turn:
        def waits() -> None:
            if caller.peer.kind == "client":  # an operator of the same name is somebody else
                self._uploads.waits(ClientName(caller.name))

        return self._turns.turn(f"{caller.peer.kind}/{caller.name}", waits)


def add_to_server(service: TransferService, server: grpc.aio.Server) -> None:
    """Offer the service, its chunks read and written by `wire.chunks`."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Begin": grpc.unary_unary_rpc_method_handler(
            service.Begin, pb.BeginRequest.FromString, pb.BeginReply.SerializeToString
        ),
        "Upload": grpc.stream_unary_rpc_method_handler(
            service.Upload, decode, pb.UploadReply.SerializeToString
        ),
        "Download": grpc.unary_stream_rpc_method_handler(
            service.Download, pb.DownloadRequest.FromString, encode
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def key_of(key: types.UploadKey, caller: Caller) -> Key:
    """Read what is being uploaded.  Only an operator's model belongs to no run yet."""
    purpose = PURPOSES.get(key.purpose)
    at = key.attempt
    if purpose is None or (caller.peer.kind == "admin") != (purpose == "model" and not at.run):
        raise BadMessage("this upload is neither an update of a client nor a model that was asked for")
    if purpose == "model" and (at.round or at.attempt):
        raise BadMessage(f"an initial model belongs to no round, not to round {at.round}")
    return Key(
        purpose="update" if purpose == "update" else "model",
        run=run_of(at.run) if at.run or purpose == "update" else RunId(""),
        round=at.round,
        attempt=at.attempt,
        digest=digest_of(key.sha256),
        bytes=key.bytes,
    )


def digest_of(sha256: bytes) -> Digest:
    """Read a SHA-256.  Raises BadMessage."""
    if len(sha256) != 32:
        raise BadMessage(f"a SHA-256 of {len(sha256)} bytes")
    return Digest(sha256.hex())


async def _chunks(
    first: Piece, rest: AsyncIterator[Piece], total: int, turn: Turn
) -> AsyncIterator[tuple[int, bytes | memoryview]]:
    def noted(piece: Piece) -> tuple[int, bytes | memoryview]:
        if piece.offset + len(piece.data) >= total:
            turn.enough()
        return piece.offset, piece.data

    if first.data:
        yield noted(first)
    async for piece in rest:
        yield noted(piece)
