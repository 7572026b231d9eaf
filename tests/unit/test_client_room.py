"""A site whose disk is full waits and goes on where it stood; a killed trainer is asked once more."""

import errno
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unisono.base.clock import ManualClock
from unisono.base.ids import ClientName, Digest, RunId
from unisono.base.probe import judged
from unisono.base.system_clock import SystemClock
from unisono.client.config import Config
from unisono.client.runtime import journal, notices, room
from unisono.client.runtime.cache import Cache
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.trainer_process import TaskFailure, TrainerProcess
from unisono.client.runtime.training import Workbench
from unisono.client.runtime.vault import Identity, Vault
from unisono.client.runtime.vitals import Vitals
from unisono.client.trainer.failures import Failed, of_our_own, user_code
from unisono.plan import canonical, digest, parse

FULL = OSError(errno.ENOSPC, "No space left on device")
RUN = RunId("r-0001")
PLAN = parse(b'task = "halves"\n')
CHILD = """
import json, os, sys
seen = sys.argv[1]
for line in sys.stdin:
    do = json.loads(line)["do"]
    with open(seen, "a") as log:
        print(do, file=log)
    if do == "open":
        print(json.dumps({"opened": {}}), flush=True)
    elif open(seen).read().count("describe") <= int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    else:
        open(sys.argv[3], "wb").close()
        print(json.dumps({"described": {"manifest": "{}", "model": "a" * 64, "bytes": 7}}), flush=True)
"""


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    found = Vault(tmp_path, ManualClock())
    yield found
    found.close()


def limited(vault: Vault) -> int:
    """Let the database grow no more, as on a full disk; return the limit that it had."""
    (pages,) = vault._db.execute("PRAGMA page_count").fetchone()
    vault._db.execute(f"PRAGMA max_page_count = {pages}")
    return int(pages)


def padded(vault: Vault) -> None:
    with vault.transaction():
        for number in range(1000):
            vault.note("padding", text="x" * 1000, number=number)


def test_a_vault_without_room_says_so_and_has_changed_nothing(vault: Vault, tmp_path: Path) -> None:
    limited(vault)
    with pytest.raises(sqlite3.OperationalError, match="full") as caught:
        padded(vault)
    assert room.is_full(caught.value, tmp_path)
    assert vault.audit() == ()
    vault._db.execute("PRAGMA max_page_count = 1000000")
    vault.joined(Identity("cardio", ClientName("hospital-a"), 2), "fb3e")  # no transaction was left open
    assert [line.kind for line in vault.audit()] == ["joined"]


def test_what_a_lack_of_room_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert room.is_full(FULL, tmp_path)
    assert room.is_full(TaskFailure("disk_full", "the site's disk is full"), tmp_path)
    assert not room.is_full(OSError(errno.EACCES, "Permission denied"), tmp_path)
    assert not room.is_full(TaskFailure("task_error", "no"), tmp_path)
    monkeypatch.setattr(room, "_free", lambda folder: 4096)
    assert room.is_full(TaskFailure("task_error", "it ended with exit code 1"), tmp_path)
    assert not room.is_full(TaskFailure("not_finite", "a NaN"), tmp_path)
    assert not room.is_full(sqlite3.OperationalError("no such table"), tmp_path)


def test_the_trainer_tells_a_full_disk_from_an_error_of_the_task() -> None:
    assert of_our_own(FULL).reason == "disk_full"
    with pytest.raises(Failed) as caught, user_code():
        raise FULL
    assert caught.value.reason == "disk_full"


def test_the_log_counts_the_lines_that_found_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "client.log"
    written = journal.Journal(file, "info")
    real, left = os.write, [40]

    def write(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise FULL
        taken = real(descriptor, data[: left[0]])
        left[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", write)
    for number in range(3):
        written(notices.RoundOver(RUN, number, counted=True, survivors=3))
    left[0] = 100_000
    written(notices.RoundOver(RUN, 9, counted=True, survivors=3))
    monkeypatch.undo()
    written.close()
    torn, *whole = file.read_text().splitlines()
    assert len(torn) == 40
    lost, last = map(json.loads, whole)
    assert (lost["event"], lost["lines"]) == ("LinesLost", 3)
    assert last["round"] == 9


@pytest.mark.parametrize(("kills", "asked"), [(1, 2), (2, 2)])
def test_a_killed_trainer_is_asked_once_more(tmp_path: Path, vault: Vault, kills: int, asked: int) -> None:
    halt, log = Halt(), tmp_path / "asked.log"
    (tmp_path / "child.py").write_text(CHILD)
    cache = Cache(tmp_path / "cache", bytes(32))
    out = cache.path(Digest("describe.part"))
    command = (sys.executable, "-S", str(tmp_path / "child.py"), str(log), str(kills), str(out))
    trainer = TrainerProcess(tmp_path / "trainer.log", 20.0, SystemClock(), halt, command)
    config = Config(tasks={"halves": "tasks.py:Halves"})
    vault.joined(Identity("cardio", ClientName("hospital-a"), 2), "fb3e")
    bench = Workbench(config, vault, cache, trainer, bytes(32), 2)
    try:
        if kills < 2:
            bench.prepare(RUN, canonical(PLAN), digest(PLAN))
        else:
            with pytest.raises(TaskFailure, match="SIGKILL"):
                bench.prepare(RUN, canonical(PLAN), digest(PLAN))
    finally:
        bench.stop()
        halt.close()
    assert log.read_text().split() == ["open", "describe"] * asked


def test_the_health_file_is_written_over_where_no_other_finds_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, file = ManualClock(), tmp_path / "health.json"
    vitals = Vitals(file, "hospital-a", clock)

    def full(path: Path, text: str, encoding: str) -> int:
        path.touch()
        raise FULL

    monkeypatch.setattr(Path, "write_text", full)
    vitals.trouble("connection", "the disk is full; free some of it")
    assert "the disk is full" in judged(file, clock.wall()).line
    vitals.cured("connection")
    assert "starting" in judged(file, clock.wall()).line
    assert list(tmp_path.iterdir()) == [file]
