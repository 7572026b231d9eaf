"""No sync is missing: what is acknowledged, or leaves a site, was on the disk before.

Held by two tools: an order check over a trace of all calls, and power failures that take back what was not
synced.  Each is shown to fail when one kind of file is never synced.
"""

import re

import pytest
from crash_trace import Trace
from crash_world import POWER, Point, Quiet, World, opened, plan_bytes, story
from harness import Federation
from nursery import Nursery

pytestmark = pytest.mark.e2e


def traced(world: World, name: str) -> Trace:
    return Trace().read(world.trace(name).read_text().splitlines())


@pytest.mark.parametrize("protection", ["sealed", "secagg"])
def test_nothing_leaves_before_it_is_on_the_disk(
    nursery: Nursery, enrolled_once: Federation, protection: str
) -> None:
    with opened(nursery, enrolled_once, marks=True) as world:
        ended = story(world, "coordinator", plan_bytes(protection, 1, rounds=2), None)
        assert ended.document["state"] == "finished"
        world.told()
        coordinator, *sites = (traced(world, name) for name in world.lives)
    for trace in (coordinator, *sites):
        assert not trace.wrong
    assert coordinator.claims["durable"] > 20
    assert coordinator.claims["leaves"] >= 8
    for site in sites:
        assert site.claims["durable"] >= 4
        assert site.claims["sends"] >= 3
        assert (site.claims.get("says", 0) >= 9) is (protection == "secagg")


@pytest.mark.parametrize(
    ("name", "part", "said"),
    [
        ("coordinator", "state.db-wal", "run r-0001 left"),
        ("coordinator", "/spool/", "/spool/.* was called durable"),
        ("coordinator", "/blobs", "/blobs/.* was called durable"),
        ("anna", "state.db-wal", "left before"),
    ],
)
def test_a_missing_sync_is_found_in_the_trace(
    nursery: Nursery, enrolled_once: Federation, name: str, part: str, said: str
) -> None:
    with opened(nursery, enrolled_once, marks=True) as world:
        world.controls[name].do_not_sync(part)
        story(world, name, plan_bytes("secagg", 1), None)
        trace = traced(world, name)
    assert trace.wrong
    assert any(re.search(said, line) for line in trace.wrong)


def test_a_missing_sync_is_found_by_a_power_failure(
    nursery: Nursery, enrolled_once: Federation, quiet: Quiet
) -> None:
    """A database that is never synced loses the run that was acknowledged."""
    with opened(nursery, enrolled_once) as world:
        world.controls["coordinator"].arm(lose=POWER)  # from here on, notes are taken
        world.controls["coordinator"].do_not_sync("state.db")
        story_of = plan_bytes("sealed", 0)
        with pytest.raises(AssertionError, match="is gone"):
            story(world, "coordinator", story_of, Point(60, lose=POWER))
