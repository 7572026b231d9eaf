"""Wall clocks that jump: no round ends by it, no certificate lives longer; waits have another clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from crash_checks import check_folders
from crash_world import PATIENCE, Document, World, opened, plan_bytes
from harness import CLIENTS, Federation, eventually
from nursery import Nursery

from unisono.base.errors import Unavailable
from unisono.wire.v1 import admin_pb2

pytestmark = pytest.mark.e2e
DAY = 86_400.0


@pytest.fixture
def world(nursery: Nursery, enrolled_once: Federation) -> Iterator[World]:
    with opened(nursery, enrolled_once) as found:
        yield found


def until(world: World, run: str, condition: Callable[[Document], bool]) -> Document:
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(Unavailable):
            document = world.ask("ShowRun", admin_pb2.RunRequest(run=run))
            if document["state"] in ("finished", "failed", "stopped") or condition(document):
                return document
        assert time.monotonic() < end, document
        time.sleep(0.02)


def jump(world: World, seconds: float, *names: str) -> None:
    for name in names:
        world.controls[name].jump(seconds)


@pytest.mark.parametrize("protection", ["sealed", "secagg"])
def test_a_day_forward_and_a_day_back_end_no_round(world: World, protection: str) -> None:
    everybody = ("coordinator", *CLIENTS)
    started = world.start_run(plan_bytes(protection, 1, rounds=4, seconds=0.5))
    for published, (seconds, who) in enumerate(
        [(DAY, everybody), (-DAY, everybody), (DAY, ("coordinator",))], start=1
    ):
        until(world, started, lambda document, n=published: document["rounds_published"] >= n)  # type: ignore[misc]
        jump(world, seconds, *who)
    done = until(world, started, lambda document: False)
    assert (done["state"], done["reason"]) == ("finished", "all 4 rounds are done")
    assert [entry["attempts"] for entry in done["rounds"]] == [1] * 4
    assert all(entry["survivors"] == list(CLIENTS) for entry in done["rounds"])
    jump(world, 0.0, *everybody)
    world.told()
    world.stop()
    check_folders(world)


def test_certificates_end_by_the_wall_clock_and_the_run_goes_on_after_it_was_set_right(world: World) -> None:
    started = world.start_run(plan_bytes("sealed", 1, rounds=3, seconds=1.0))
    until(world, started, lambda document: document["rounds_published"] >= 1)
    jump(world, 40 * DAY, "coordinator")  # beyond the 30 days of a client's certificate
    refused = world.root / "coordinator.log"

    def said() -> str:
        return refused.read_text()

    eventually(lambda: "expired" in said(), 20, lambda: "nobody was refused: " + said()[-2000:])
    jump(world, 0.0, "coordinator")
    done = until(world, started, lambda document: False)
    assert done["state"] == "finished", done["reason"]


def test_a_site_whose_clock_is_wrong_says_so_once_and_does_no_harm(world: World) -> None:
    started = world.start_run(plan_bytes("sealed", 1, rounds=3, seconds=1.0))
    until(world, started, lambda document: document["rounds_published"] >= 1)
    jump(world, 40 * DAY, "anna")
    done = until(world, started, lambda document: False)
    assert done["state"] == "finished", done["reason"]
    assert all(entry["survivors"] == list(CLIENTS) for entry in done["rounds"])
    said = world.lives["anna"].text
    assert said.count("expired at") == 1, "its certificate is asked for once, not with every poll"
    assert "internal fault" not in said
    world.told()
    jump(world, 0.0, "anna")
    world.stop()
    check_folders(world)
