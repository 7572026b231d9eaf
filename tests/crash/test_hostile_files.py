"""Files that were damaged, cut, emptied or swapped are named in a clear error, without a traceback."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from crash_world import World, place, plan_bytes, story
from harness import TASKS, Federation, listening
from nursery import Life, Nursery

pytestmark = pytest.mark.e2e
SERVER = ("ca.key", "ca.pem", "sealing.key", "sealing.pem", "at-rest.key", "coordinator.toml", "state.db")
SITE = ("client.toml", "policy.toml", "tls.key", "tls.pem", "ca.pem", "signing.key", "vault.key", "state.db")
DAMAGES = ["emptied", "flipped", *(pytest.param(how, marks=pytest.mark.slow) for how in ("cut", "noise"))]
MAY_WORK = {  # what may be empty, reads as something else, or only costs a download
    "coordinator.toml", "client.toml", "policy.toml", "vault.key"
}  # fmt: skip


@pytest.fixture(scope="module")
def used(nursery: Nursery, enrolled_once: Federation) -> Iterator[Federation]:
    """A federation that has had a run; nothing of it is running."""
    root = place()
    world = World(nursery, enrolled_once.copy(root / "all"))
    try:
        world.begin()
        story(world, "anna", plan_bytes("secagg", 1), None)
        world.told()
        world.stop()
        yield world.federation
    finally:
        world.kill()
        shutil.rmtree(root)


def damage(file: Path, how: str) -> None:
    data = file.read_bytes()
    middle = len(data) // 2
    match how:
        case "emptied":
            changed = b""
        case "cut":
            changed = data[:middle]
        case "flipped" if file.name == "state.db":
            changed = data[:4096] + bytes(4096) + data[8192:]  # one page of it
        case "flipped":
            changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        case _:
            changed = os.urandom(len(data))
    file.write_bytes(changed)


def outcome(life: Life, done: "object") -> int | None:
    """Return the exit code; None if it works."""
    end = time.monotonic() + 30
    while not life.ended.is_set():
        if done():  # type: ignore[operator]
            with suppress(ProcessLookupError):
                os.killpg(life.pid, 9)
            life.ended.wait(10)
            return None
        assert time.monotonic() < end, life.text
        time.sleep(0.01)
    return life.status


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", SERVER)
def test_a_coordinator_names_the_file(
    nursery: Nursery, used: Federation, tmp_path: Path, name: str, how: str
) -> None:
    federation = used.copy(tmp_path / "all")
    damage(federation.operator / "coordinator" / name, how)
    words = ["serve", "--dir", str(federation.operator), "--host", "127.0.0.1"]
    life = nursery.start(words, tmp_path / "serve.log")
    code = outcome(life, lambda: listening(federation.port))
    print(name, how, code, life.text)
    check(code, life.text, name)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", SITE)
def test_a_site_names_the_file(
    nursery: Nursery, used: Federation, tmp_path: Path, name: str, how: str
) -> None:
    federation = used.copy(tmp_path / "all")
    damage(federation.site("anna") / "client" / name, how)
    words = ["client", "--dir", str(federation.site("anna")), "--task", f"arrays={TASKS}:Arrays"]
    life = nursery.start(words, tmp_path / "client.log")
    code = outcome(life, lambda: life.log.exists() and "cannot reach" in life.text)
    print(name, how, code, life.text)
    check(code, life.text, name)


def check(code: int | None, text: str, name: str) -> None:
    assert "Traceback" not in text
    assert "internal fault" not in text
    if code is None:
        assert name in MAY_WORK, "the damage was not seen"
    else:
        assert code in (1, 3)
        assert name in text
