"""A download on its way out: what was sent is let go before the next piece is waited for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from unisono.base.pacing import Pieces
from unisono.server.runtime.turns import Turns
from unisono.server.services.guard import Crowd
from unisono.server.services.transfer import Limits, TransferService
from unisono.wire.chunks import Piece, encode
from unisono.wire.v1 import transfer_pb2 as pb

CALLER: Any = SimpleNamespace(name="a", peer=SimpleNamespace(kind="client", name="a"))
PARTS = [bytes([number]) * 1000 for number in range(3)]


class Everything:
    """What the service asks of the rest: a model of three parts, for everybody."""

    def __init__(self) -> None:
        self.sent = 0

    async def lend(self, *_: object) -> Callable[[int], None]:
        return self._count

    def _count(self, size: int) -> None:
        self.sent += size

    async def read(
        self, digest: str, offset: int, length: int, sizes: Pieces, turn: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        for part in PARTS:
            await turn()
            yield offset, part
            offset += len(part)

    async def stream(
        self, context: object, handle: Callable[[Any], AsyncIterator[Piece]]
    ) -> AsyncIterator[Piece]:
        async for piece in handle(CALLER):
            yield piece


def test_what_was_sent_is_let_go_before_the_next_turn_is_waited_for() -> None:
    """Whoever sends names the last piece until it has the next: 32 in line held 1 MiB each."""

    async def story() -> None:
        rest: Any = Everything()
        service = TransferService(rest, rest, rest, rest, Limits(60.0, Turns(1), Crowd(8, "downloads")))
        pieces: list[Piece] = []
        wire: list[bytes] = []
        download: Any = service.Download(pb.DownloadRequest(sha256=bytes(32)), rest)
        async with aclosing(download) as stream:
            async for piece in stream:
                for before in pieces:
                    with pytest.raises(ValueError, match="released"):
                        len(before.data)
                pieces.append(piece)
                wire.append(encode(piece))
        assert wire == [encode(Piece(1000 * number, part)) for number, part in enumerate(PARTS)]
        assert rest.sent == 3000

    asyncio.run(story())
