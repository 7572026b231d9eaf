"""What the ops port says: the documents of the commands, health, metrics, the stream."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from federation_world import until
from ops_world import Answer, event, watched
from prometheus_client.parser import text_string_to_metric_families

from unisono import telemetry
from unisono.base.ids import ClientName, RunId
from unisono.server.ops import live
from unisono.server.rounds import Lost
from unisono.wire.v1 import admin_pb2 as admin

if TYPE_CHECKING:
    import grpc
    from federation_world import Caller, Play


async def to_the_end(sites: list[Caller]) -> None:
    for change in ([1.0, 0.0], [0.0, 1.0], []):
        for site in sites:
            await site.work(change)
    await sites[0].instruction("idle")


def families(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200
    return {found.name: found for found in text_string_to_metric_families(answer.body.decode())}


def value(found: dict[str, Any], name: str, **labels: str) -> float:
    for family in found.values():
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    raise AssertionError(f"no {name} {labels}")


def test_documents_are_those_of_the_commands(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            run, sites = await seen.federation.begun("a", "b")
            await to_the_end(sites)
            await until(lambda: not seen.federation.hall.runs)
            operate = seen.federation.operator().operate
            asked: dict[str, Any] = {
                "/api/v1/runs": operate.ListRuns(admin.ListRequest()),
                f"/api/v1/runs/{run}": operate.ShowRun(admin.RunRequest(run=run)),
                "/api/v1/runs/latest": operate.ShowRun(admin.RunRequest()),
                "/api/v1/tokens": operate.ListTokens(admin.ListRequest()),
                "/api/v1/clients": operate.ListClients(admin.ListRequest()),
                f"/api/v1/runs/{run}/models": operate.ListModels(admin.RunRequest(run=run)),
            }
            for way, call in asked.items():
                answer = await seen.browser.get(way)
                assert answer.status == 200, answer.body
                assert answer.document == json.loads((await call).json), way
            assert (await seen.browser.get("/api/v1/health")).document["federation"] == "cardio"

    play(story())


def test_documents_of_the_dashboard(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            roster = (await seen.browser.get("/api/v1/runs/latest/roster")).document
            assert (roster["run"], roster["digest"], roster["clients"]) == (None, None, [])
            run, sites = await seen.federation.begun("a", "b")
            await to_the_end(sites)
            await until(lambda: not seen.federation.hall.runs)
            events = (await seen.browser.get(f"/api/v1/runs/{run}/events?limit=3")).document["events"]
            assert [e["event"] for e in events][-1] == "run_ended"
            assert len(events) == 3
            audit = (await seen.browser.get("/api/v1/audit?limit=2")).document
            older = (
                await seen.browser.get(f"/api/v1/audit?limit=1&before={audit['lines'][-1]['seq']}")
            ).document
            assert older["lines"][0]["seq"] == audit["lines"][-1]["seq"] - 1
            assert len(audit["head"]) == 64
            opened = (await seen.browser.get(f"/api/v1/runs/{run}/releases")).document["releases"]
            assert [(one["round"], one["what"], one["sites"]) for one in opened] == [
                (1, "train", 2),
                (2, "train", 2),
                (3, "evaluate", 2),
            ]
            assert all(len(one["root"]) == 64 and one["bytes"] > 0 for one in opened)
            done = (await seen.browser.get("/api/v1/participation")).document["clients"]
            assert {name: row["updates"] for name, row in done.items()} == {"a": 3, "b": 3}
            assert all(row["bytes"] > 0 and row["dropouts"] == 0 for row in done.values())
            roster = (await seen.browser.get("/api/v1/runs/latest/roster")).document
            assert [site["name"] for site in roster["clients"]] == ["a", "b"]
            assert roster["spoken"].startswith("SHA256:")

    play(story())


@pytest.mark.parametrize(
    ("way", "status", "code"),
    [
        ("/api/v1/runs/r-9999", 404, "not_found"),
        ("/api/v1/runs/latest", 404, "not_found"),
        ("/api/v1/runs/' OR 1=1", 404, "not_found"),
        ("/api/v1/runs/<script>", 404, "not_found"),
        ("/api/v1/audit?limit=x", 400, "bad_message"),
        ("/api/v1/audit?before=-1", 400, "bad_message"),
        ("/api/v1/audit?before=" + "9" * 40, 400, "bad_message"),
    ],
)
def test_what_does_not_exist(path: Path, play: Play, way: str, status: int, code: str) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            answer = await seen.browser.get(way.replace(" ", "%20"))
            assert (answer.status, answer.document["error"]["code"]) == (status, code)

    play(story())


def test_a_bug_in_a_view_is_one_answer(path: Path, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            monkeypatch.setattr(seen.federation.hall.store, "runs", lambda: 1 / 0)
            answer = await seen.browser.get("/api/v1/runs")
            assert (answer.status, answer.document["error"]["code"]) == (500, "internal")
            assert b"ZeroDivision" not in answer.body
            assert (await seen.browser.get("/api/v1/clients")).status == 200

    play(story())


def test_ready_and_not(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            assert (await seen.browser.get("/healthz")).document == {"status": "ok"}
            well = await seen.browser.get("/readyz")
            assert well.status == 200
            assert list(well.document["checks"]) == ["database", "disk", "certificate"]
            assert all(check["ok"] for check in well.document["checks"].values())
        async with watched(path, {"min_free_bytes": 2**50}) as seen:
            full = await seen.browser.get("/readyz")
            assert (full.status, full.document["status"]) == (503, "not ready")
            assert not full.document["checks"]["disk"]["ok"]
            assert "make room" in full.document["checks"]["disk"]["detail"]

    play(story())


def test_a_closed_database_is_not_ready(path: Path, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with watched(path) as seen:

            def gone() -> None:
                raise RuntimeError("the disk with the database is gone")

            monkeypatch.setattr(seen.federation.hall.store, "active", gone)
            answer = await seen.browser.get("/readyz")
            assert answer.status == 503
            assert answer.document["checks"]["database"] == {
                "ok": False,
                "detail": "the disk with the database is gone",
            }

    play(story())


def test_metrics_of_a_run(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            run, sites = await seen.federation.begun("a", "b")
            await sites[0].work([1.0, 0.0])
            found = families(await seen.browser.get("/metrics"))
            assert value(found, "unisono_run_waits_for_clients", run=run) == 1
            assert value(found, "unisono_run_phase", run=run, phase="collecting") == 1
            assert 0 < value(found, "unisono_run_seconds_left", run=run) <= 60
            assert value(found, "unisono_clients", state="online") == 2
            await sites[1].work([0.0, 1.0])
            for change in ([1.0, 0.0], []):
                for site in sites:
                    await site.work(change)
            await sites[0].instruction("idle")
            await until(lambda: not seen.federation.hall.runs)
            found = families(await seen.browser.get("/metrics"))
            assert value(found, "unisono_rounds_published_total") == 2
            assert value(found, "unisono_round_seconds_count") == 2
            assert value(found, "unisono_runs_ended_total", state="finished") == 1
            assert value(found, "unisono_updates_total", result="accepted") == 6
            assert value(found, "unisono_fold_seconds_count") == 6
            assert value(found, "unisono_fsync_seconds_count") >= 6
            assert value(found, "unisono_transaction_seconds_count") > 6
            assert value(found, "unisono_rpc_seconds_count", method="Upload", code="ok") == 7
            assert value(found, "unisono_rpc_seconds_count", method="Hello", code="ok") == 2
            assert value(found, "unisono_bytes_total", direction="in") > 0
            assert value(found, "unisono_bytes_total", direction="out") > 0
            assert not found["unisono_run_phase"].samples, "a run that is over has no phase"
            known = {metric.name for metric in telemetry.METRICS}
            assert {name for name in found if name.startswith("unisono_")} == known
            assert not found["unisono_epsilon"].samples, "no privacy is accounted, so none is claimed"

    play(story())


def test_who_is_left_out_is_counted(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            run, sites = await seen.federation.begun("a", "b")
            await sites[0].work([1.0, 0.0])
            lineage = seen.federation.hall.runs[RunId(run)]
            await lineage.driver.handle(Lost(ClientName("a"), "left"))  # its update counts
            await lineage.driver.handle(Lost(ClientName("b"), "silent for 60 s"))
            found = families(await seen.browser.get("/metrics"))
            assert value(found, "unisono_updates_total", result="left_out", reason="lost") == 1

    play(story())


def test_no_label_that_a_stranger_makes_up(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            site = await seen.federation.client("a")
            for number in range(20):
                method = f"/unisono.wire.v1.RoundService/Made{number}"
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = site.channel.unary_unary(method)
                with pytest.raises(Exception, match="UNIMPLEMENTED"):
                    await call(b"")
            text = (await seen.browser.get("/metrics")).body
            assert b"Made" not in text

    play(story())


def test_the_stream_tells_what_changes(path: Path, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.02)

    async def story() -> None:
        async with watched(path) as seen:
            stream = await seen.browser.stream("/api/v1/events")
            assert (await event(stream))["runs"] == []
            run, sites = await seen.federation.begun("a", "b")
            picture: dict[str, Any] = {"runs": []}
            while not (picture["runs"] and picture["runs"][0]["phase"] == "collecting"):
                picture = await event(stream)
            shown = picture["runs"][0]
            assert (shown["id"], shown["round"], shown["counts"]) == (run, 1, {"working": 2})
            assert "waiting for a, b" in shown["sentence"]
            await to_the_end(sites)
            while picture["runs"]:
                picture = await event(stream)

    play(story())


def test_the_stream_ends_with_the_server_and_has_so_many_readers(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_READERS", 2)

    async def story() -> None:
        async with watched(path) as seen:
            streams = [await seen.browser.stream("/api/v1/events") for _ in range(2)]
            for stream in streams:
                await event(stream)
            refused = await seen.browser.get("/api/v1/events")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            seen.port.close()
            for stream in streams:
                await stream.read()  # comes to an end

    play(story())


def test_a_reader_that_takes_nothing_is_dropped(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.01)
    monkeypatch.setattr(live, "PATIENCE", 0.1)
    monkeypatch.setattr(live, "SHARE", 1.0)  # else a busy machine makes a megabyte every ten seconds

    async def story() -> None:
        async with watched(path) as seen:
            number = iter(range(10**6))
            monkeypatch.setattr(seen.ops.live, "_look", lambda: {"n": next(number), "x": "y" * 1_000_000})
            await seen.browser.stream("/api/v1/events")  # and never reads
            await until(lambda: seen.ops.live.readers)
            await until(lambda: not seen.ops.live.readers)

    play(story())
