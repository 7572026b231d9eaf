"""Slow is not dead: who moves is waited for, who rests is named, who stands still is left, not for good."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client_secure_world import World, unit
from federation_world import Caller, Federation, Play, refused, serving
from structlog.testing import capture_logs

from unisono.base.clock import ManualClock
from unisono.base.hours import Hours
from unisono.base.ids import ClientName, RunId
from unisono.client.config import Network
from unisono.client.runtime.allowance import Allowance
from unisono.client.runtime.notices import Resting
from unisono.crypto import sha256
from unisono.plan import Plan
from unisono.server.runtime.presence import Greeting, Presence
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import types_pb2 as types

RUN, A = RunId("r-0001"), ClientName("a")
HOUR = 3600.0
GREETING = Greeting("test", 1, frozenset({"x"}), frozenset(), frozenset())


def plan(wait: str = "all") -> Plan:
    return Plan.model_validate(
        {
            "task": "x",
            "protection": {"mode": "sealed"},
            "cohort": {"size": 2, "min_survivors": 1},
            "rounds": {"count": 3, "idle_seconds": 60, "wait": wait, "grace_seconds": 0.2},
        }
    )


def present(greeting: Greeting = GREETING) -> tuple[ManualClock, Presence]:
    clock = ManualClock()
    presence = Presence(clock, 60.0)
    presence.hello(A, greeting)
    presence.silence(RUN, {A})
    return clock, presence


def test_who_trains_for_hours_with_progress_is_never_silent() -> None:
    clock, presence = present()
    for _ in range(8 * 60):
        clock.advance(55.0)
        assert presence.silence(RUN, {A})[A] < 60.0
        presence.moved(A, "training", 50, 100)  # one percent may take an hour
    clock.advance(60.0)
    assert presence.silence(RUN, {A})[A] == 60.0


def test_who_rests_is_no_longer_waited_for_after_a_day() -> None:
    """Its hours come once a day: who is still resting then says so without end."""
    clock, presence = present(replace(GREETING, hours=Hours.parse("20:00-06:00")))
    quiet: list[float] = []
    for _ in range(26 * 60):
        presence.rests(A, RUN)
        quiet.append(presence.silence(RUN, {A})[A])
        clock.advance(60.0)
    assert presence.note(A, RUN) == "sends from 20:00 to 06:00 only"
    assert max(quiet[: 24 * 60]) == 0.0
    assert quiet[-1] > 0.9 * HOUR
    presence.moved(A, "uploading", 1, 2)
    assert (presence.silence(RUN, {A})[A], presence.note(A, RUN)) == (0.0, "")


def test_who_rests_for_one_run_rests_not_for_another() -> None:
    _, presence = present(replace(GREETING, hours=Hours.parse("20:00-06:00"), upload_limit=2e6))
    presence.rests(A, RUN)
    assert presence.note(A, RunId("r-0002")) == ""
    presence.moved(A, "uploading", 1, 2)
    assert presence.note(A, RunId("r-0002")) == "sends at most 2 MB/s"


def test_who_was_left_out_while_it_rested_is_not_left_out_for_ever() -> None:
    """It is asked nothing any more, so it says nothing either when its hours begin."""
    clock, presence = present(replace(GREETING, hours=Hours.parse("20:00-06:00")))
    presence.rests(A, RUN)
    clock.advance(45.0)
    assert (presence.rested(A, RUN), presence.is_resting(A)) == (45.0, True)
    clock.advance(16.0)
    presence.seen(A)  # a poll tells nothing of its hours
    assert (presence.rested(A, RUN), presence.is_resting(A), presence.note(A, RUN)) == (-1.0, False, "")
    presence.rests(A, RUN)
    assert presence.rested(A, RUN) == 61.0


async def hello(caller: Caller, limit: int = 0, hours: str = "") -> None:
    asked = rounds.HelloRequest(
        protocol_min=1, protocol_max=1, tasks=["x"], protections=["sealed"], strategies=["fedavg"],
        network=rounds.Network(upload_limit=limit, hours=hours),
    )  # fmt: skip
    caller.sealing = (await caller.round.Hello(asked)).sealing_certificate


@dataclass
class Slow:
    """A run in round 1: one client has uploaded, the other takes its time, which passes when we say so."""

    federation: Federation
    quick: Caller
    slow: Caller
    work: rounds.Work
    clock: ManualClock

    async def passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.federation.coordinator.look()

    async def rests(self) -> None:
        said = rounds.Progress(attempt=self.work.attempt, stage=rounds.Progress.RESTING)
        await self.slow.round.Submit(rounds.SubmitRequest(progress=said))

    async def arrived(self, count: int) -> None:
        """Return once so many bytes are there."""
        session = self.federation.hall.presence.get(ClientName("slow"))
        assert session is not None
        while session.done < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    @property
    def last(self) -> tuple[int, tuple[str, ...]]:
        """The last published round and its survivors."""
        return self.federation.hall.runs[RunId("r-0001")].run.last

    async def published(self, round_: int) -> None:
        async with asyncio.timeout(10):
            while self.last[0] < round_:
                await self.quick.instruction("work")

    async def status(self) -> dict[str, Any]:
        status = (await self.federation.show())["status"]
        assert isinstance(status, dict)
        return status


async def begun(federation: Federation, which: Plan, limit: int = 0, hours: str = "") -> Slow:
    clock = federation.hall.presence.clock = ManualClock()
    quick, slow = await federation.client("quick"), await federation.client("slow")
    await hello(quick)
    await hello(slow, limit, hours)
    await federation.start(which)
    for site in (quick, slow):
        await site.join()
    await quick.send_model()
    work = (await slow.instruction("work")).work
    await quick.work([1.0, 1.0])
    return Slow(federation, quick, slow, work, clock)


def pieces_of(data: bytes, work: rounds.Work, go_on: asyncio.Semaphore) -> AsyncIterator[types.Chunk]:
    key = types.UploadKey(
        purpose=types.UploadKey.UPDATE, attempt=work.attempt, sha256=sha256(data), bytes=len(data)
    )

    async def chunks() -> AsyncIterator[types.Chunk]:
        for place in range(0, len(data), len(data) // 9):
            await go_on.acquire()
            piece = data[place : place + len(data) // 9]
            yield types.Chunk(offset=place, data=piece, key=None if place else key)

    return chunks()


def test_a_slow_upload_is_waited_for_as_long_as_bytes_move(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            at = await begun(federation, plan(), limit=2_000_000)
            data, go_on = at.slow.update(at.work, [3.0, 3.0]), asyncio.Semaphore(0)
            upload = asyncio.ensure_future(at.slow.transfers.Upload(pieces_of(data, at.work, go_on)))
            for number in range(1, 9):
                go_on.release()
                await at.arrived(number * (len(data) // 9))
                await at.passes(59.0)
            told = str((await at.status())["sentence"])
            assert told == (
                "round 1: 1 of 2 updates, waiting for slow, 1.0 s left without progress; "
                "slow sends at most 2 MB/s"
            )
            for _ in range(3):
                go_on.release()
            assert (await upload).complete
            await at.published(1)
            assert at.last == (1, ("quick", "slow"))

    play(story())


def test_who_stops_moving_is_left_and_takes_part_in_the_next_round(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            at = await begun(federation, plan())
            data, go_on = at.slow.update(at.work, [3.0, 3.0]), asyncio.Semaphore(3)
            upload = asyncio.ensure_future(at.slow.transfers.Upload(pieces_of(data, at.work, go_on)))
            await at.arrived(3 * (len(data) // 9))
            await at.passes(0.0)
            await at.passes(60.0)
            await at.published(1)
            assert at.last[1] == ("quick",)
            upload.cancel()
            await at.slow.instruction("idle")  # it is back, while round 2 goes on without it
            await at.quick.work([0.0, 0.0])
            for site in (at.slow, at.quick):
                assert (await site.work([0.0, 0.0])).attempt.round == 3
            await at.published(3)
            assert set(at.last[1]) == {"quick", "slow"}

    play(story())


def test_a_round_waits_for_a_site_s_hours_and_says_so(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            at = await begun(federation, plan(), hours="20:00-06:00")
            for _ in range(10):
                await at.rests()
                await at.passes(59.0)
            status = await at.status()
            assert status["sentence"] == (
                "round 1: 1 of 2 updates, waiting for slow; slow sends from 20:00 to 06:00 only"
            )
            row = next(row for row in status["clients"] if row["name"] == "slow")
            assert (row["stage"], row["note"]) == ("resting", "sends from 20:00 to 06:00 only")
            await at.slow.work([3.0, 3.0])
            await at.published(1)
            assert at.last == (1, ("quick", "slow"))

    play(story())


def test_the_reason_of_a_wait_is_in_the_log_once(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            at = await begun(federation, plan(), hours="20:00-06:00")
            with capture_logs() as logs:
                for _ in range(5):
                    await at.rests()
                    await at.passes(10.0)
            told = [line for line in logs if line["event"] == "waiting"]
            assert [(line["client"], line["reason"]) for line in told] == [
                ("slow", "slow sends from 20:00 to 06:00 only")
            ]

    play(story())


def test_with_a_quorum_the_round_goes_on_without_who_rests(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            at = await begun(federation, plan("quorum"), hours="20:00-06:00")
            await at.published(1)
            assert at.last == (1, ("quick",))
            assert (await refused(at.rests()))[1] == "wrong_phase"
            assert (await at.slow.instruction("work")).work.attempt.round == 2

    play(story())


def test_who_rests_for_one_run_is_told_of_another(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            at = await begun(federation, plan(), hours="20:00-06:00")
            other = await federation.start(plan())
            assert (await at.slow.instruction("consider", "work")).WhichOneof("what") == "work"
            await at.rests()
            assert (await at.slow.instruction("consider", "work")).consider.run == other

    play(story())


def test_a_first_model_is_asked_of_another_than_who_rests(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            clock = federation.hall.presence.clock = ManualClock()
            late, other = await federation.client("a"), await federation.client("b")
            await hello(late, hours="20:00-06:00")
            await hello(other)
            run = await federation.start(plan("quorum"))
            for site in (late, other):
                await site.join()
            assert (await late.instruction("send_model")).send_model.run == run
            said = rounds.Progress(attempt=types.Attempt(run=run), stage=rounds.Progress.RESTING)
            for _ in range(3):
                await late.round.Submit(rounds.SubmitRequest(progress=said))
                await federation.coordinator.look()
                clock.advance(0.15)  # the plan's grace is 0.2
            await other.send_model()
            assert (await other.instruction("work")).work.attempt.round == 1

    play(story())


def test_a_site_outside_its_hours_joins_and_sends_when_they_begin(tmp_path: Path) -> None:
    """Keys at once, so that the others need not wait for a person's evening twice; the model in its hours."""
    world = World(tmp_path, 4)
    late = world.sites[3]
    late.clock.set_wall(19 * HOUR + 55 * 60)
    allowance = Allowance(Network(hours="20:00-06:00"), late.clock, late.halt, time.gmtime)
    late.driver._p = replace(late.driver._p, allowance=allowance)
    before = late.clock.ticks()
    try:
        world.run()
        mean = world.hub.mean()
    finally:
        world.stop()
    assert abs(mean - unit([1, 2, 3, 4])).max() < 1.0
    assert late.clock.ticks() - before >= 300.0
    (told,) = [notice for notice in late.seen if isinstance(notice, Resting)]  # people hear it once
    assert told.hours == "20:00-06:00"
    assert late.bench.trained == ["1.1"]
