"""Many slow uploads at once, over real mutual TLS: they take turns; who stands still holds nobody up."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
from federation_world import NOW, Caller, Federation, Play, serving, until

from unisono.base.ids import ClientName, Digest
from unisono.crypto import TlsKey, sha256, sha256_hex
from unisono.identity import peer_of, request
from unisono.server.runtime import turns
from unisono.server.runtime.presence import Presence
from unisono.server.runtime.turns import AT_ONCE, Turn, Turns
from unisono.server.services import server
from unisono.tensors import Entry, Manifest
from unisono.wire.v1 import transfer_pb2 as transfer
from unisono.wire.v1 import types_pb2 as types

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import pytest

LENGTH = 30_000
MANIFEST = Manifest((Entry("w", (LENGTH,), "F32", travels=True),), ())
SLOW, STILL, PIECES, PAUSE = 56, 8, 3, 0.02


def operators(federation: Federation, count: int) -> list[Caller]:
    """Return operators, each with a name and a connection of its own."""
    key = TlsKey.generate()
    made = []
    for number in range(count):
        issued = federation.hall.authority.issue_tls(request(key), "admin", f"op-{number}", NOW, 86_400)
        federation.hall.ledger.issued(peer_of(issued), NOW)
        made.append(federation.caller(key, issued, f"op-{number}"))
    return made


def model_of(number: int) -> bytes:
    return MANIFEST.header + np.full(LENGTH, number, "<f4").tobytes()


async def upload(caller: Caller, number: int, stop: asyncio.Event | None = None) -> float:
    """Send a model in pieces with a pause between; with `stop`, stand still after the first until then."""
    data = model_of(number)
    key = types.UploadKey(purpose=types.UploadKey.MODEL, sha256=sha256(data), bytes=len(data))
    step = -(-len(data) // PIECES)

    async def chunks() -> AsyncIterator[types.Chunk]:
        for offset in range(0, len(data), step):
            yield types.Chunk(offset=offset, data=data[offset : offset + step], key=key)
            await (stop.wait() if stop else asyncio.sleep(PAUSE))

    place = await caller.transfers.Begin(transfer.BeginRequest(key=key))
    assert (place.offset, place.complete) == (0, False)
    assert (await caller.transfers.Upload(chunks())).complete
    return time.monotonic()


def test_64_slow_uploads_take_turns_and_all_arrive(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, longest = 0, 0
    give = Turns._next

    def watched(line: Turns) -> None:
        nonlocal most, longest
        longest = max(longest, line.in_line)
        give(line)
        most = max(most, len(line._held))

    monkeypatch.setattr(Turns, "_next", watched)

    async def story() -> None:
        async with serving(path) as federation:
            callers, stop = operators(federation, SLOW + STILL), asyncio.Event()
            still = [
                asyncio.ensure_future(upload(caller, number, stop))
                for number, caller in enumerate(callers[:STILL])
            ]
            await asyncio.sleep(0)
            began = time.monotonic()
            ends = await asyncio.gather(
                *(upload(caller, number) for number, caller in enumerate(callers[STILL:], STILL))
            )
            assert not any(task.done() for task in still)
            assert max(ends) - began < 15  # alone: 0.06 s of pauses; four at a time: 1 s, and 64 handshakes
            stop.set()
            await asyncio.gather(*still)
            arrived = (
                federation.hall.blobs.exists(Digest(sha256_hex(model_of(n)))) for n in range(SLOW + STILL)
            )
            assert all(arrived)

    play(story())
    assert most == AT_ONCE
    assert longest > AT_ONCE  # there was a line


def test_who_stands_in_line_is_not_silent_and_an_operator_is_not_the_client_of_its_name(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, heard, called, signs = Turns(), asyncio.Event(), list[str](), list[str]()
    turn = line.turn

    def told(owner: str, sign: Callable[[], None]) -> Turn:
        def counted() -> None:
            signs.append(owner)
            sign()

        return turn(owner, counted)

    def waits(presence: Presence, client: ClientName) -> None:
        called.append(client)
        heard.set()

    monkeypatch.setattr(turns, "SIGN", 0.01)
    monkeypatch.setattr(line, "turn", told)
    monkeypatch.setattr(Presence, "waits", waits)
    monkeypatch.setattr(server, "Turns", lambda at_once: line)

    async def story() -> None:
        async with serving(path) as federation:
            _, sites = await federation.begun("op-0", "z")
            work = (await sites[0].instruction("work")).work
            called.clear()  # while a model is checked its sender waits for us, too
            heard.clear()
            others = [line.turn(f"other-{number}", heard.set) for number in range(AT_ONCE)]
            for other in others:
                await other.take(100.0)
            operator = asyncio.ensure_future(upload(operators(federation, 1)[0], 9))
            await until(lambda: signs.count("admin/op-0") == 3)
            assert line.in_line == 1
            assert not called
            update = sites[0].update(work, [0.0, 0.0])
            client = asyncio.ensure_future(sites[0].send(types.UploadKey.UPDATE, work.attempt, update))
            await heard.wait()
            for other in others:
                other.give()
            await asyncio.gather(operator, client)
            assert set(called) == {"op-0"}

    play(story())
