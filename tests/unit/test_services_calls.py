"""The services over real mutual TLS: what calls and refusals look like, and a run over a restart."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from federation_world import MODEL, NOW, PLAN, Play, refused, serving

from unisono import plan as plans
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import TlsKey, sha256
from unisono.identity import peer_of, request
from unisono.server.rounds import RoundPublished
from unisono.server.store import Change
from unisono.wire.v1 import admin_pb2 as admin
from unisono.wire.v1 import enrolment_pb2 as enrolment
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import transfer_pb2 as transfer
from unisono.wire.v1 import types_pb2 as types


def test_hello_comes_first(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client = await federation.client("a")
            progress = rounds.Progress(attempt=types.Attempt(run="r-0001", round=1, attempt=1))
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: client.round.NextInstruction(rounds.NextInstructionRequest()),
                lambda: client.round.Submit(rounds.SubmitRequest(progress=progress)),
                lambda: client.round.Submit(rounds.SubmitRequest(declined=rounds.Declined(run="r-0001"))),
            ]
            for call in calls:
                assert (await refused(call()))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "hello_first")
            reply = await client.hello()
            assert (reply.federation, reply.name, reply.number) == ("cardio", "a", 1)
            assert (reply.clients_online, reply.clients_enrolled) == (1, 1)
            codes = [(await refused(call()))[1] for call in calls[1:]]
            assert codes == ["wrong_phase", "not_found"]

    play(story())


def test_versions_meet_or_are_named(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, protocols=(1, 2)) as federation:
            client = await federation.client("a")

            def hello(least: int, most: int) -> rounds.HelloRequest:
                return rounds.HelloRequest(protocol_min=least, protocol_max=most)

            spoken = [await client.round.Hello(hello(*r)) for r in ((1, 1), (1, 2), (2, 3), (0, 9))]
            assert [reply.protocol for reply in spoken] == [1, 2, 2, 2]
            for theirs in ((3, 4), (0, 0), (2, 1)):
                code, ours, text = await refused(client.round.Hello(hello(*theirs)))
                assert (code, ours) == (grpc.StatusCode.FAILED_PRECONDITION, "refused")
                assert f"versions 1 to 2, the client {theirs[0]} to {theirs[1]}" in text

    play(story())


def test_rubbish_is_refused_and_harms_nobody_else(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client, other = await federation.client("a"), await federation.client("b")
            await client.hello()
            await other.hello()
            waiting = asyncio.ensure_future(
                other.round.NextInstruction(rounds.NextInstructionRequest(cursor=0, wait_seconds=5))
            )
            raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(
                "/unisono.wire.v1.RoundService/Submit"
            )
            bad = (
                grpc.StatusCode.INVALID_ARGUMENT,
                "bad_message",
                "these 100 bytes are no message for Submit",
            )
            assert await refused(raw(b"\xff" * 100)) == bad
            stream: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = client.channel.stream_unary(
                "/unisono.wire.v1.TransferService/Upload"
            )
            assert (await refused(stream(iter([b"\xff\xff"]))))[:2] == bad[:2]
            empty = await refused(client.round.Submit(rounds.SubmitRequest()))
            assert empty[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "bad_message")
            unknown = await refused(raw(b"\x32\x00"))  # a leg of a later version
            assert unknown[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "bad_message")
            big = rounds.SubmitRequest(joined=rounds.Joined(run="r-0001", manifest=bytes(5 << 20)))
            assert (await refused(client.round.Submit(big)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
            headless = await refused(client.transfers.Upload(iter([types.Chunk(data=b"x")])))
            assert headless[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "bad_message")
            short = transfer.DownloadRequest(sha256=b"123")
            with pytest.raises(grpc.aio.AioRpcError, match="SHA-256 of 3 bytes"):
                _ = [chunk async for chunk in client.transfers.Download(short)]
            assert (await waiting).WhichOneof("what") == "idle"
            assert (await client.instruction("idle")).cursor

    play(story())


@pytest.mark.parametrize("wait", [float("nan"), float("inf"), -1.0, 0.0])
def test_odd_waits_are_bounded(path: Path, play: Play, wait: float) -> None:
    async def story() -> None:
        async with serving(path, long_poll_seconds=0.04) as federation:
            client = await federation.client("a")
            await client.hello()
            first = await client.instruction("idle")
            asked = rounds.NextInstructionRequest(cursor=first.cursor, wait_seconds=wait)
            assert (await client.round.NextInstruction(asked)).cursor == first.cursor

    play(story())


def test_what_a_peer_says_cannot_drive_a_terminal(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client = await federation.client("a")
            await client.hello()
            await federation.start()
            run = (await client.instruction("consider")).consider.run
            said = rounds.Declined(run=run, code="outside_policy", reason="no\x1b[2J\x07 " + "x" * 900)
            await client.round.Submit(rounds.SubmitRequest(declined=said))
            ((_, reason),) = federation.hall.runs[RunId(run)].run.declined
            assert reason == "no?[2J? " + "x" * 392
            bad = rounds.HelloRequest(protocol_min=1, protocol_max=1, tasks=["x\x1b"])
            assert (await refused(client.round.Hello(bad)))[1] == "bad_message"

    play(story())


def test_a_run_goes_on_in_a_new_process_on_the_same_folder(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            run, sites = await federation.begun("a", "b")
            first = await sites[0].work([1.0, 0.0])  # b's is missing when the coordinator goes
            work = (await sites[1].instruction("work")).work
            keys = [(site.key, site.certificate, site.name) for site in sites]
        async with serving(path) as federation:
            sites = [federation.caller(*key) for key in keys]
            code = (await refused(sites[1].round.NextInstruction(rounds.NextInstructionRequest())))[1]
            assert code == "hello_first"
            for site in sites:
                await site.hello()
            again = (await sites[1].instruction("work")).work
            assert again == work
            key = types.UploadKey(
                purpose=types.UploadKey.UPDATE, attempt=first.attempt, sha256=bytes(32), bytes=1
            )
            repeated = await refused(sites[0].transfers.Begin(transfer.BeginRequest(key=key)))
            assert repeated[1] == "wrong_phase"  # a's counts already
            await sites[1].work([0.0, 1.0])
            last = [await site.work(change) for site, change in zip(sites, ([1, 0], [0, 1]), strict=True)]
            model = await sites[0].download(last[0].model_sha256)
            assert np.allclose(np.frombuffer(model[-8:], "<f4"), [3.5, 4.5], atol=1e-6)
            closing = [await site.work([]) for site in sites]
            assert {work.kind for work in closing} == {rounds.Work.EVALUATE}
            async for found in federation.operator().operate.WatchRun(admin.RunRequest(run=run)):
                document = json.loads(found.json)
            assert (document["state"], len(document["rounds"])) == ("finished", 2)
            assert document["rounds"][0]["metrics"] == {"loss": 0.5}
            outcome = (await sites[0].instruction("idle")).last
            assert (outcome.state, outcome.counted, outcome.survivors) == ("finished", True, 2)
            assert list((path / "coordinator" / "spool" / run).iterdir()) == []

    play(story())


def test_operators_bring_a_model_and_renew(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            operator = federation.operator()
            assert await operator.send(types.UploadKey.MODEL, types.Attempt(), MODEL)
            plan = PLAN.model_copy(update={"model": PLAN.model.model_copy(update={"init": "m.safetensors"})})
            asked = admin.StartRunRequest(plan=plans.canonical(plan), model_sha256=sha256(MODEL))
            run = json.loads((await operator.operate.StartRun(asked)).json)["id"]
            assert await operator.download(sha256(MODEL), 5) == MODEL[5:]
            missing = admin.StartRunRequest(plan=plans.canonical(plan))
            assert (await refused(operator.operate.StartRun(missing)))[:2] == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "bad_configuration",
            )
            stopped = json.loads((await operator.operate.StopRun(admin.RunRequest(run=run))).json)
            assert stopped["state"] == "stopped"
            key = TlsKey.generate()
            reply = await operator.enrol.Renew(enrolment.RenewRequest(tls_csr=request(key)))
            renewed = federation.caller(key, reply.tls_certificate)
            assert json.loads((await renewed.operate.Health(admin.ListRequest())).json)["status"] == "ok"
            assert peer_of(reply.tls_certificate).kind == "admin"

    play(story())


def test_a_run_of_any_length_fits_into_its_messages(path: Path, play: Play) -> None:
    """3000 rounds of 100 clients: 9 MB as one document, where gRPC takes 4 MiB."""

    async def story() -> None:
        async with serving(path) as federation:
            operator, run = federation.operator(), RunId(await federation.start())
            names = tuple(ClientName(f"hospital-{number:03}") for number in range(100))
            stored = federation.hall.store.load(run)
            facts = tuple(
                RoundPublished(n, 1, names, names, 1.0, Digest("ab" * 32), ()) for n in range(1, 3001)
            )
            federation.hall.store.save(run, Change(stored.run, stored.now, NOW, facts=facts))
            shown = await federation.show()
            rounds_shown = shown["rounds"]
            assert isinstance(rounds_shown, list)
            assert shown["rounds_published"] == 3000
            assert rounds_shown[-1]["round"] == 3000
            assert len(rounds_shown) > 100
            first, pages = 1, list[int]()
            while first <= 3000:
                page = json.loads(
                    (await operator.operate.ShowRun(admin.RunRequest(run=run, first_round=first))).json
                )["rounds"]
                pages += [one["round"] for one in page]
                first = pages[-1] + 1
            assert pages == list(range(1, 3001))
            watched = await anext(aiter(operator.operate.WatchRun(admin.RunRequest(run=run))))
            assert len(watched.json) < 1 << 20
            assert json.loads(watched.json)["rounds"][-1]["round"] == 3000

    play(story())
