"""Folders back from yesterday's backup: they start, say what is missing, and nothing leaves a site twice."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from crash_world import PATIENCE, Document, World, opened, plan_bytes, story
from harness import CLIENTS, Federation, eventually
from nursery import Nursery

from unisono.base.clock import ManualClock
from unisono.base.errors import Unavailable
from unisono.client.runtime.vault import Vault
from unisono.wire.v1 import admin_pb2

pytestmark = pytest.mark.e2e
ENDED = ("finished", "failed", "stopped")


@pytest.fixture
def world(nursery: Nursery, enrolled_once: Federation) -> Iterator[World]:
    with opened(nursery, enrolled_once) as found:
        yield found


def run(world: World, protection: str, seed: int, rounds: int = 1) -> Document:
    return story(world, "operator", plan_bytes(protection, seed, rounds), None).document


def until(world: World, run_id: str, rounds: int) -> Document:
    """Return the document once so many rounds are published, or the run has ended."""
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(Unavailable):
            document = world.ask("ShowRun", admin_pb2.RunRequest(run=run_id))
            if document["state"] in ENDED or document["rounds_published"] >= rounds:
                return document
        assert time.monotonic() < end
        time.sleep(0.01)


def put_back(world: World, backup: Path) -> None:
    shutil.rmtree(world.folder("coordinator"))
    shutil.copytree(backup, world.folder("coordinator"))


def released(world: World) -> Counter[tuple[object, ...]]:
    """Count what left the sites, by site, run and model."""
    found = Counter[tuple[object, ...]]()
    for name in CLIENTS:
        with closing(Vault(world.folder(name), ManualClock())) as vault:
            lines = vault.audit()
        found.update((name, x.detail["run"], x.detail["model"]) for x in lines if x.kind == "released")
    return found


def test_sites_refuse_what_an_older_coordinator_asks_again(world: World, tmp_path: Path) -> None:
    first = run(world, "secagg", 1)
    world.told()
    world.stop()
    backup = shutil.copytree(world.folder("coordinator"), tmp_path / "yesterday")
    world.begin()
    assert run(world, "secagg", 2)["id"] == "r-0002"
    world.told()
    world.stop()
    before = released(world)
    put_back(world, backup)
    world.runs = 1
    world.begin()
    shown = world.ask("ShowRun", admin_pb2.RunRequest(run=first["id"]))
    assert shown["model_sha256"] == first["model_sha256"]
    again = run(world, "secagg", 3)  # gets the number of the run that was lost
    assert (again["id"], again["state"]) == ("r-0002", "failed")
    assert "r-0002 is over at this site" in again["reason"]
    after = run(world, "secagg", 3)
    assert (after["id"], after["state"]) == ("r-0003", "finished")
    world.told()
    world.stop()
    assert not [key for key in released(world) - before if key[1] == "r-0002"]


def test_a_round_that_sites_are_done_with_is_not_done_again(world: World, tmp_path: Path) -> None:
    """The backup is of the middle of a run, which went on without it."""
    started = world.start_run(plan_bytes("secagg", 1, rounds=4, seconds=0.3))
    until(world, started, 1)
    world.kill()
    backup = shutil.copytree(world.folder("coordinator"), tmp_path / "yesterday")
    world.begin()
    until(world, started, 3)
    world.kill()
    before = released(world)
    put_back(world, backup)
    world.begin()
    ended = until(world, started, 5)
    assert ended["state"] == "failed"
    assert "this client has seen round" in ended["reason"]
    world.kill()
    assert not released(world) - before, "nothing leaves again for what left before"


def test_files_that_are_missing_are_told_of(world: World) -> None:
    first = run(world, "sealed", 1)
    world.told()
    world.stop()
    (world.folder("coordinator") / "blobs" / first["model_sha256"]).unlink()
    for number in range(6):
        (world.folder("coordinator") / "blobs" / (f"{number}" * 64)).write_bytes(b"of a later state")
    world.begin()
    said = "r-0001 misses 1 of its files in blobs/: restore them from a backup"
    text = world.lives["coordinator"]
    eventually(lambda: said in text.text, 10, lambda: text.text)
    problems = world.ask("Health", admin_pb2.ListRequest())["problems"]
    assert said in problems
    assert any(text.startswith("6 files in blobs/ belong to no run") for text in problems)
    assert run(world, "sealed", 2)["state"] == "finished"
    world.told()
    world.stop()
    assert (world.folder("coordinator") / "blobs" / ("0" * 64)).exists(), "they may be of a better backup"


def test_a_run_whose_model_is_missing_ends_and_says_so(world: World) -> None:
    started = world.start_run(plan_bytes("sealed", 1, rounds=4, seconds=0.3))
    until(world, started, 1)
    world.kill()
    for path in (world.folder("coordinator") / "blobs").iterdir():
        path.unlink()
    for name in CLIENTS:
        shutil.rmtree(world.folder(name) / "cache")
    world.begin()
    ended = until(world, started, 5)
    assert ended["state"] == "stopped"
    assert "its model is lost: there is no file with digest" in ended["reason"]
