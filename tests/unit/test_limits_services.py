"""Every limit of the coordinator, reached over real mutual TLS: who meets it is told, and others go on."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from federation_world import PLAN, Caller, Federation, Play, refused, serving, until

from unisono import plan as plans
from unisono.base.clock import ManualClock
from unisono.base.ids import ClientName
from unisono.crypto import SigningKey, TlsKey, sha256, system_entropy
from unisono.identity import request
from unisono.server.runtime.bell import Bells
from unisono.tensors import Entry, Manifest
from unisono.wire.v1 import admin_pb2 as admin
from unisono.wire.v1 import enrolment_pb2 as enrolment
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import transfer_pb2 as transfer
from unisono.wire.v1 import types_pb2 as types

BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, "unavailable")


async def put_off(call: Awaitable[object]) -> tuple[float, str]:
    """Return after how many seconds a call may be tried again, and why; it must have been put off."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    metadata = dict(caught.value.trailing_metadata())
    assert (caught.value.code(), metadata.get("unisono-code")) == BUSY
    return float(metadata["unisono-retry-after"]), caught.value.details() or ""


def model_key(size: int) -> types.UploadKey:
    return types.UploadKey(
        purpose=types.UploadKey.MODEL, attempt=types.Attempt(), sha256=sha256(bytes(size)), bytes=size
    )


def poll(caller: Caller, cursor: int, wait: float = 20.0) -> asyncio.Future[rounds.Instruction]:
    asked = rounds.NextInstructionRequest(cursor=cursor, wait_seconds=wait)
    return asyncio.ensure_future(caller.round.NextInstruction(asked))


async def greeted(federation: Federation, name: str) -> tuple[Caller, int]:
    """Return a client that has said hello, and the cursor of having nothing to do."""
    client = await federation.client(name)
    await client.hello()
    return client, (await client.instruction("idle")).cursor


@asynccontextmanager
async def enrolled(path: Path, name: str, **limits: Any) -> AsyncIterator[tuple[Federation, Caller]]:
    """Yield a coordinator with such limits, and a client that it enrolled when it had none."""
    async with serving(path) as before:
        client = await before.client(name)
    async with serving(path, **limits) as federation:
        yield federation, federation.caller(client.key, client.certificate, name)


async def in_time(call: Callable[[], Awaitable[object]]) -> None:
    """Call until there is an answer: a busy machine may miss a limit of some tenths of a second."""
    while True:
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            if "was ready within" not in str(error.details()):
                raise
        else:
            return


@pytest.mark.parametrize("pieces", [0, 1], ids=["nothing", "one piece"])
def test_a_stream_that_sends_nothing_more_is_ended(path: Path, play: Play, pieces: int) -> None:
    async def story() -> None:
        async with serving(path, stream_idle_seconds=0.2) as federation:
            operator, key = federation.operator(), model_key(4096)

            async def silent() -> AsyncIterator[types.Chunk]:
                for place in range(pieces):
                    yield types.Chunk(offset=2048 * place, data=bytes(2048), key=key)
                await asyncio.Event().wait()

            seconds, why = await put_off(operator.transfers.Upload(silent()))
            assert (seconds, why) == (1.0, "nothing came for 0.2 s: the stream is ended")
            place = await operator.transfers.Begin(transfer.BeginRequest(key=key))
            assert place.offset == 2048 * pieces  # what came stays

    play(story())


def test_a_stream_that_trickles_is_ended(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            operator, key = federation.operator(), model_key(4096)

            async def trickle() -> AsyncIterator[types.Chunk]:
                for place in range(4096):
                    yield types.Chunk(offset=place, data=b"\0", key=key)

            answer = await refused(operator.transfers.Upload(trickle()))
            assert answer[1:] == (
                "bad_message",
                "more than 64 chunks of less than 1024 bytes in one upload",
            )

    play(story())


def test_who_does_not_read_what_it_asked_for_has_few_streams(path: Path, play: Play) -> None:
    """Such a stream cannot be ended, and holds a message in memory: 32 of them were 100 MB."""

    async def story() -> None:
        async with serving(path, max_downloads_per_client=2) as federation:
            manifest = Manifest((Entry("w", (2 << 20,), "F32", travels=True),), ("loss",))
            blob = federation.hall.blobs.writer()
            for data in (manifest.header, *[bytes(1 << 20)] * 8):
                blob.write(data)
            digest = bytes.fromhex(blob.commit())
            sites = [(await greeted(federation, name))[0] for name in "ab"]
            started = admin.StartRunRequest(plan=plans.canonical(PLAN), model_sha256=digest)
            run = json.loads((await federation.operator().operate.StartRun(started)).json)["id"]
            joined = rounds.Joined(run=run, manifest=manifest.encode())
            for site in sites:
                await site.round.Submit(rounds.SubmitRequest(joined=joined))
            greedy, other = sites
            asked = transfer.DownloadRequest(sha256=digest)
            unread = [aiter(greedy.transfers.Download(asked)) for _ in range(2)]
            for stream in unread:
                await anext(stream)
            assert await put_off(anext(aiter(greedy.transfers.Download(asked)))) == (
                1.0,
                "a has 2 downloads open already",
            )
            assert len(await other.download(digest)) == manifest.file_bytes
            rest = [sum([len(chunk.data) async for chunk in stream]) for stream in unread]
            assert min(rest) > 7 << 20  # and whoever reads in the end gets everything

    play(story())


def test_half_a_handshake_is_ended_and_keeps_nobody_out(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, handshake_seconds=1.0) as federation:
            half = [socket.create_connection(("127.0.0.1", federation.port)) for _ in range(200)]
            try:
                await greeted(federation, "a")
                for one in half:
                    one.settimeout(5)
                    assert await asyncio.to_thread(one.recv, 1) == b""
            finally:
                for one in half:
                    one.close()

    play(story())


def test_a_client_has_its_places_and_a_token_too(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, max_calls_per_client=4) as federation:
            client, cursor = await greeted(federation, "a")
            polls = [poll(client, cursor) for _ in range(5)]
            done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
            assert await put_off(done.pop()) == (1.0, "a has 4 calls open already")
            for one in waiting:
                one.cancel()

    play(story())


def test_questions_that_wait_leave_places_for_answers(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many clients as calls are allowed, nobody could have said anything any more."""
    kept = list[float]()
    wait = Bells.wait

    async def counted(bells: Bells, ticket: asyncio.Event, seconds: float) -> None:
        kept.append(seconds)
        await wait(bells, ticket, seconds)

    monkeypatch.setattr(Bells, "wait", counted)

    async def story() -> None:
        async with serving(path, max_concurrent_rpcs=12) as federation:
            sites = [await greeted(federation, name) for name in "abc"]
            polls = [poll(client, cursor) for client, cursor in sites for _ in range(3)]
            await until(lambda: len(kept) == 9)
            late, cursor = await greeted(federation, "late")
            seconds, why = await put_off(poll(late, cursor))
            assert (seconds, why) == (5.0, "9 clients wait for something to do already")
            await late.hello()
            run = await federation.start()  # what is to be done is told at once
            assert (await late.instruction("consider")).consider.run == run
            await asyncio.wait(polls)

    play(story())


def test_more_calls_than_are_allowed_are_put_off_by_grpc_itself(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, max_concurrent_rpcs=4) as federation:
            client, cursor = await greeted(federation, "a")
            polls = [poll(client, cursor) for _ in range(12)]
            await until(lambda: sum(one.done() for one in polls) >= 8)
            errors = [one.exception() for one in polls if one.done()]
            codes = [error.code() for error in errors if isinstance(error, grpc.aio.AioRpcError)]
            assert codes
            assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            for one in polls:
                one.cancel()

    play(story())


async def join(federation: Federation, name: str) -> None:
    bootstrap = await federation.bootstrap(name)
    asked = enrolment.EnrolRequest(
        tls_csr=request(TlsKey.generate()), signing_csr=request(SigningKey.generate(system_entropy))
    )
    await bootstrap.enrol.Enrol(asked)


@pytest.mark.parametrize("limit", ["joins_per_minute_per_address", "joins_per_minute"])
def test_tries_to_join_are_counted(path: Path, play: Play, limit: str) -> None:
    async def story() -> None:
        settings: dict[str, Any] = {limit: 3.0}
        async with serving(path, **settings) as federation:
            for name in "abc":
                await join(federation, name)
            seconds, why = await put_off(join(federation, "d"))
            assert 15 < seconds <= 20
            assert why == "too many tries to join" + (" from 127.0.0.1" if "address" in limit else "")

    play(story())


def test_the_rate_of_what_a_client_says_is_a_setting(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, max_says_per_second=0.1) as federation:
            federation.hall.presence.clock = ManualClock()
            client = await federation.client("a")
            await client.hello()
            await client.hello()
            seconds, why = await put_off(client.hello())
            assert seconds == 10
            assert why == "a says more than 0.1 things a second"

    play(story())


def test_the_folder_has_a_quota(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, max_state_bytes=2_000_000) as federation:
            operator = federation.operator()
            seconds, why = await put_off(
                operator.transfers.Begin(transfer.BeginRequest(key=model_key(3_000_000)))
            )
            assert seconds == 10.0
            assert "of 2.0 MB (max_state_bytes), too much for 3.0 MB more" in why
            # what was promised counts, but not beside the upload that it was promised to
            assert await operator.send(types.UploadKey.MODEL, types.Attempt(), bytes(1_040_000))

    play(story())


def test_an_answer_that_is_not_ready_is_not_waited_for_without_end(path: Path, play: Play) -> None:
    """Our clients set deadlines; another's call would hold its place for as long as the disk hangs."""

    async def story() -> None:
        async with enrolled(path, "a", call_seconds=0.2, long_poll_seconds=0.1) as (federation, client):
            await in_time(client.hello)
            hangs = threading.Event()
            disk = asyncio.ensure_future(federation.hall.workers.database(hangs.wait, 10.0))
            try:
                seconds, why = await put_off(client.hello())
                assert (seconds, why) == (1.0, "no answer was ready within 0.3 s")
            finally:
                hangs.set()
            await disk
            await in_time(client.hello)

    play(story())


def test_what_a_site_allows_itself_is_kept_and_rubbish_refused(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client = await federation.client("a")

            def hello(limit: int, hours: str) -> Awaitable[rounds.HelloReply]:
                network = rounds.Network(upload_limit=limit, hours=hours)
                return client.round.Hello(
                    rounds.HelloRequest(protocol_min=1, protocol_max=1, tasks=["x"], network=network)
                )

            await hello(2_000_000, "20:00-06:00")
            session = federation.hall.presence.get(ClientName("a"))
            assert session is not None
            assert (session.greeting.upload_limit, str(session.greeting.hours)) == (2e6, "20:00-06:00")
            assert (await refused(hello(0, "\x1b[2J")))[1] == "bad_message"

    play(story())


async def unsaid() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def nothing() -> AsyncIterator[bytes]:
    for found in tuple[bytes, ...]():
        yield found


def half(
    caller: Caller, method: str = "RoundService/Hello", said: Callable[[], AsyncIterator[bytes]] = unsaid
) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
    """Begin a call, and never send its request."""
    begin: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = caller.channel.stream_unary(
        f"/unisono.wire.v1.{method}"
    )
    return begin(said())


@pytest.mark.parametrize("method", ["RoundService/Hello", "TransferService/Download"])
def test_calls_without_a_request_take_nobody_elses_place(path: Path, play: Play, method: str) -> None:
    """gRPC counts a call from its first byte, and would wait for its request for ever."""

    async def story() -> None:
        async with serving(path, max_concurrent_rpcs=60, max_calls_per_client=8) as federation:
            client, good = await federation.client("many"), await federation.client("good")
            await client.hello()
            calls = [half(client, method) for _ in range(70)]
            refusals = [await call.code() for call in calls[8:]]
            assert {*refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            await good.hello()
            for call in calls:
                call.cancel()

    play(story())


def test_who_was_revoked_holds_no_call_open(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client = await federation.client("gone")
            await client.hello()
            waiting = half(client)
            await federation.operator().operate.Revoke(admin.RevokeRequest(name="gone", reason="moved"))
            assert await half(client).code() == grpc.StatusCode.PERMISSION_DENIED
            waiting.cancel()

    play(story())


def test_a_request_that_does_not_come_is_not_waited_for_without_end(path: Path, play: Play) -> None:
    async def story() -> None:
        async with enrolled(path, "slow", call_seconds=0.2) as (_, client):
            _, why = await put_off(half(client))
            assert why == "no request came within 0.2 s"

            call = half(client, said=nothing)
            assert (await refused(call))[1:] == ("bad_message", "a call without a request")

    play(story())
