"""What one client with a valid certificate could do to the coordinator and to the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path

import grpc
from federation_world import MODEL, PLAN, Play, refused, serving
from structlog.testing import capture_logs

from unisono import plan as plans
from unisono.base.clock import ManualClock
from unisono.base.errors import Fault
from unisono.base.ids import ClientName, RunId
from unisono.crypto import SigningKey, TlsKey, sha256, system_entropy
from unisono.identity import request
from unisono.server.runtime.acceptance import Acceptance
from unisono.server.runtime.clients import MOST_MODELS
from unisono.server.runtime.presence import BURST
from unisono.server.services.guard import MOST_CALLS
from unisono.server.services.status import status_of
from unisono.tensors import Entry, Manifest
from unisono.wire.v1 import admin_pb2 as admin
from unisono.wire.v1 import enrolment_pb2 as enrolment
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import types_pb2 as types


def manifest(extent: int) -> bytes:
    return Manifest((Entry("w", (extent,), "F32", travels=True),), ("loss",)).encode()


def joined(run: str, extent: int) -> rounds.SubmitRequest:
    return rounds.SubmitRequest(
        joined=rounds.Joined(run=run, manifest=manifest(extent), model_sha256=sha256(MODEL))
    )


def test_nobody_takes_all_places(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            greedy, other = await federation.client("a"), await federation.client("b")
            await greedy.hello()
            await other.hello()
            idle = await greedy.instruction("idle")
            asked = rounds.NextInstructionRequest(cursor=idle.cursor, wait_seconds=20)
            polls = [
                asyncio.ensure_future(greedy.round.NextInstruction(asked)) for _ in range(MOST_CALLS + 8)
            ]
            done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 8:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            for poll in done:
                assert (await refused(poll))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "unavailable")
            assert len(waiting) == MOST_CALLS
            await other.hello()
            for poll in waiting:
                poll.cancel()
            await asyncio.wait(waiting)
            async with asyncio.timeout(10):
                while True:  # the places are free again
                    try:
                        await greedy.hello()
                        return
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.01)

    play(story())


def test_models_that_are_announced_one_after_another_are_not_kept(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client, other = await federation.client("a"), await federation.client("b")
            await client.hello()
            await other.hello()
            run = await federation.start()
            lineage = federation.hall.runs[RunId(run)]
            for extent in range(1, MOST_MODELS + 1):
                await client.round.Submit(joined(run, extent))
                assert len(lineage.manifests) == 1
            answer = await refused(client.round.Submit(joined(run, 99)))
            assert answer[1:] == (
                "refused",
                f"a has announced {MOST_MODELS} different models for run {run} already",
            )
            await client.round.Submit(joined(run, MOST_MODELS))  # a repeat of the last
            assert lineage.manifest.entries[0].shape == (MOST_MODELS,)
            await other.round.Submit(joined(run, MOST_MODELS))
            assert lineage.run.stage.kind == "initialising"
            await refused(other.round.Submit(joined(run, 7)))
            assert list(lineage.manifests) == [lineage.run.manifest]

    play(story())


def test_the_first_to_join_must_fit_the_operators_model_too(path: Path, play: Play) -> None:
    """Else all who fit were declined for it, and every round failed."""

    async def story() -> None:
        async with serving(path) as federation:
            operator = federation.operator()
            assert await operator.send(types.UploadKey.MODEL, types.Attempt(), MODEL)
            loose = plans.canonical(PLAN).replace(b":", b": ")  # another encoding of the same plan
            asked = admin.StartRunRequest(plan=loose, model_sha256=sha256(MODEL))
            run = RunId(json.loads((await operator.operate.StartRun(asked)).json)["id"])
            client, other, third = [await federation.client(name) for name in "abc"]
            for site in (client, other, third):
                await site.hello()
            answer = await refused(client.round.Submit(joined(run, 3)))
            assert answer[1] == "refused"
            assert "another than the operator's" in answer[2]
            assert "(2,) here and (3,) there" in answer[2]
            await other.join()
            await third.join()
            assert federation.hall.runs[run].run.roster == ("b", "c")
            assert (
                sha256(federation.hall.runs[run].plan_bytes)
                == (await other.instruction("work")).work.plan_sha256
            )

    play(story())


def test_who_talks_without_end_is_asked_to_wait(path: Path, play: Play) -> None:
    """Every change of mind is written, synced and kept in the audit log for ever."""

    async def story() -> None:
        async with serving(path) as federation:
            federation.hall.presence.clock = ManualClock()  # all in one moment
            client = await federation.client("a")
            await client.hello()
            run = await federation.start()
            before = federation.hall.store.verify_audit()[0]
            refusals: list[grpc.aio.AioRpcError] = []
            for i in range(3 * int(BURST)):
                said = rounds.SubmitRequest(declined=rounds.Declined(run=run, code="no", reason=str(i)))
                try:
                    await client.round.Submit(said)
                except grpc.aio.AioRpcError as error:
                    refusals.append(error)
            assert len(refusals) == 2 * BURST + 1
            assert {error.code() for error in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert "things a second" in (refusals[0].details() or "")
            assert federation.hall.store.verify_audit()[0] - before < 2 * BURST
            assert (await client.instruction("idle")).cursor  # asking costs nothing

    play(story())


def test_what_is_refused_takes_no_other_runs_file_along(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            hall = federation.hall
            blob = hall.blobs.writer()
            blob.write(MODEL)
            digest = blob.commit()
            async with hall.hold(digest):  # another run has just made the same bytes
                await Acceptance(hall).discard_model(digest)
                assert hall.blobs.exists(digest)
            await Acceptance(hall).discard_model(digest)
            assert not hall.blobs.exists(digest)

    play(story())


def test_room_is_looked_for_also_when_nobody_asked(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client, other = await federation.client("a"), await federation.client("b")
            for site in (client, other):
                await site.hello()
            await federation.start()
            for site in (client, other):
                await site.join()
            run = (await client.instruction("send_model")).send_model.run
            key = types.UploadKey(
                purpose=types.UploadKey.MODEL,
                attempt=types.Attempt(run=run),
                sha256=sha256(MODEL),
                bytes=len(MODEL),
            )
            federation.hall.config = federation.hall.config.model_copy(update={"min_free_bytes": 2**50})
            chunk = types.Chunk(data=MODEL, key=key)
            assert (await refused(client.transfers.Upload(iter([chunk]))))[1] == "unavailable"
            federation.hall.config = federation.hall.config.model_copy(update={"min_free_bytes": 0})
            key.bytes += 1
            answer = await refused(client.transfers.Upload(iter([types.Chunk(data=MODEL, key=key)])))
            assert answer[1] == "bad_message"
            assert "manifest" in answer[2]
            key.bytes -= 1
            key.attempt.round = 7
            answer = await refused(client.transfers.Upload(iter([types.Chunk(data=MODEL, key=key)])))
            assert "no round" in answer[2]
            key.attempt.round = 0
            assert (await client.transfers.Upload(iter([chunk]))).complete

    play(story())


def test_rubbish_as_a_run_is_no_line_in_a_log(path: Path, play: Play) -> None:
    bad = "r-0001\x1b]0;owned\x07" + "x" * 100_000

    async def story() -> None:
        async with serving(path) as federation:
            client = await federation.client("a")
            await client.hello()
            at = types.Attempt(run=bad, round=1, attempt=1)
            key = types.UploadKey(purpose=types.UploadKey.UPDATE, attempt=at, sha256=bytes(32), bytes=1)
            submit = client.round.Submit
            calls: list[Awaitable[object]] = [
                submit(rounds.SubmitRequest(joined=rounds.Joined(run=bad))),
                submit(rounds.SubmitRequest(declined=rounds.Declined(run=bad))),
                submit(rounds.SubmitRequest(progress=rounds.Progress(attempt=at))),
                submit(rounds.SubmitRequest(task_failed=rounds.TaskFailed(attempt=at))),
                client.transfers.Upload(iter([types.Chunk(key=key)])),
                client.operate.ListModels(admin.RunRequest(run=bad)),
            ]
            for call in calls:
                assert (await refused(call))[1] == "bad_message"

    with capture_logs() as logs:
        play(story())
    lines = "".join(map(str, logs))
    assert "names no run" in lines
    assert "\\x1b" not in lines
    assert "\x1b" not in lines
    assert "x" * 100 not in lines


def test_what_a_site_calls_its_software_cannot_drive_a_terminal(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            bootstrap = await federation.bootstrap("a")
            wanted = enrolment.EnrolRequest(
                tls_csr=request(TlsKey.generate()),
                signing_csr=request(SigningKey.generate(system_entropy)),
                software="unisono\x1b[2J",
            )
            await bootstrap.enrol.Enrol(wanted)
            (row,) = federation.hall.store.clients(ClientName("a"))
            assert row.software == "unisono?[2J"

    play(story())


def test_a_refusal_in_any_script_fits_its_header() -> None:
    for text in ("x" * 10_000, "%" * 10_000, "ж" * 10_000, "医" * 10_000, "🏥" * 10_000):
        words = status_of(Fault(text))[1]
        assert 500 <= len(words) <= 2000
        assert sum(1 if " " <= c <= "~" and c != "%" else 3 * len(c.encode()) for c in words) <= 6000
