"""Crash at every write: a run comes to the same model, whichever system call a process dies at.

All points are in `make slow`; `make test` runs some of each story.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import pytest
from crash_checks import check_folders
from crash_world import (
    KILL,
    POWER,
    SEEDS,
    TORN,
    Ended,
    Point,
    Quiet,
    World,
    opened,
    plan_bytes,
    story,
)
from harness import Federation
from nursery import Nursery

pytestmark = pytest.mark.e2e
WAYS = [(KILL, False), (KILL, True), (POWER, False), (TORN, False)]
SAMPLE = {"coordinator": (3, 23, 57, 91, 144, 203, 268), "anna": (2, 11, 19, 26, 33, 40, 47)}
ENOUGH = 10  # points that went wrong are listed
LIVED = 3  # points in a row that nobody reached: the story has no more


@dataclass(frozen=True, slots=True)
class Story:
    """A protection, and who dies."""

    protection: str
    victim: str

    def __str__(self) -> str:
        return f"{self.protection}-{self.victim}"


def check_run(ended: Ended, expected: str, point: Point, story_of: Story) -> None:
    """The same model from the same sites; a death costs no attempt."""
    document = ended.document
    assert document["state"] == "finished", f"{point}: {document['reason']}"
    assert ended.model == expected, f"{point}: another model"
    (only,) = document["rounds"]
    assert len(only["survivors"]) == 3, f"{point}: {only}"
    # Keys under which nothing was said are not waited for: each power failure may cost their attempt.
    keys_may_go = point.lose != KILL and story_of.protection == "secagg" and story_of.victim != "coordinator"
    assert only["attempts"] <= 1 + keys_may_go * (1 + bool(point.again)), f"{point}: {only}"


@dataclass(slots=True)
class Tally:
    """What came of many points."""

    died: int = 0
    lived: int = 0  # in a row: points that nobody reached
    wrong: list[str] = field(default_factory=list)


def sweep(world: World, story_of: Story, points: Iterator[Point], models: list[str], tally: Tally) -> None:
    """Run as many points as a federation has seeds, until one goes wrong or the story has no more."""
    for seed, point in enumerate(islice(points, SEEDS)):
        try:
            ended = story(world, story_of.victim, plan_bytes(story_of.protection, seed), point)
            check_run(ended, models[seed], point, story_of)
        except AssertionError as error:
            tally.wrong.append(f"{point}: {error}")
            return
        tally.died += ended.died
        tally.lived = 0 if ended.died else tally.lived + 1
        if tally.lived == LIVED:
            break
    try:
        world.told()
        world.stop()
        check_folders(world)
    except AssertionError as error:
        tally.wrong.append(f"in the folders, up to {point}: {error}")


def points_of(way: tuple[int, bool], calls: Iterable[int]) -> Iterator[Point]:
    """Every third one dies once more while it starts again."""
    lose, after = way
    for call in calls:
        yield Point(call, after, lose, again=call % 29 + 1 if call % 3 == 0 else 0)


STORIES = [Story(mode, victim) for mode in ("sealed", "secagg") for victim in ("coordinator", "anna")]


@pytest.mark.parametrize("story_of", STORIES, ids=str)
def test_some_points(nursery: Nursery, enrolled_once: Federation, quiet: Quiet, story_of: Story) -> None:
    ways = [*WAYS, *WAYS]
    chosen = zip(SAMPLE[story_of.victim], ways, strict=False)
    points, tally = (Point(call, after, lose) for call, (lose, after) in chosen), Tally()
    with opened(nursery, enrolled_once) as world:
        sweep(world, story_of, points, quiet(story_of.protection), tally)
    assert not tally.wrong
    assert tally.died >= 4, "the points were not reached"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=["killed-before", "killed-after", "power", "torn"])
@pytest.mark.parametrize("story_of", STORIES, ids=str)
def test_every_point(
    nursery: Nursery, enrolled_once: Federation, quiet: Quiet, story_of: Story, way: tuple[int, bool]
) -> None:
    points, tally, began = points_of(way, count(1)), Tally(), time.monotonic()
    while tally.lived < LIVED and len(tally.wrong) < ENOUGH:
        with opened(nursery, enrolled_once) as world:
            sweep(world, story_of, points, quiet(story_of.protection), tally)
    seconds = round(time.monotonic() - began)
    tell({"story": str(story_of), "way": way, "points": tally.died, "seconds": seconds, "wrong": tally.wrong})
    assert not tally.wrong
    assert tally.died > 30


def tell(line: dict[str, object]) -> None:
    """Add to the list of what was tried, for docs/RELIABILITY.md, where UNISONO_CRASH_REPORT names a file."""
    if path := os.environ.get("UNISONO_CRASH_REPORT"):
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
