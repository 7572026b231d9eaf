"""What a client keeps about itself, and who is which site of a pool."""

import json
from pathlib import Path

import pytest

from unisono.base.clock import ManualClock
from unisono.base.errors import BadConfiguration, Unreachable
from unisono.base.probe import judged, local
from unisono.cli.outcomes import CONFIGURATION, report
from unisono.client.runtime import joining
from unisono.client.runtime.halt import Halt, Halted
from unisono.client.runtime.joining import has_joined, join_once
from unisono.client.runtime.notices import CannotReach, ClocksDiffer, Connected, Notice, Stepped, WorkFailed
from unisono.client.runtime.pool import claimed
from unisono.client.runtime.vitals import Vitals

HERE = Connected("cardio", "hospital-a", 1, 3)
AWAY = CannotReach("cannot reach fl:8443: connection refused;\n nothing listens there", 2.0)
FAILED = WorkFailed("r-0001", 3, "task_failed", "the task raised ValueError", "secret of a patient")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def vitals(tmp_path: Path, clock: ManualClock) -> Vitals:
    return Vitals(tmp_path / "health.json", "hospital-a", clock)


@pytest.mark.parametrize(
    ("notices", "healthy", "words"),
    [
        ([], False, "hospital-a is starting"),
        ([HERE], True, "hospital-a of cardio is connected"),
        ([HERE, AWAY], False, "cannot reach fl:8443: connection refused; nothing listens there"),
        ([AWAY, HERE], True, "connected"),
        ([HERE, ClocksDiffer(600.0)], False, "10 m 0 s behind the coordinator's: set it"),
        ([HERE, ClocksDiffer(-600.0)], False, "ahead of the coordinator's: set it"),
        ([HERE, ClocksDiffer(600.0), HERE], True, "connected"),
        ([HERE, FAILED], False, "r-0001, round 3: the task raised ValueError"),
        ([HERE, FAILED, Stepped("r-0001", 4, "training", 0, 0.1)], True, "connected"),
        ([HERE, FAILED, Stepped("r-0001", 4, "download", 9, 0.1)], False, "ValueError"),
    ],
)
def test_what_troubles_a_client_is_one_line(
    tmp_path: Path, clock: ManualClock, vitals: Vitals, notices: list[Notice], healthy: bool, words: str
) -> None:
    for notice in notices:
        vitals(notice)
    found = judged(tmp_path / "health.json", clock.wall())
    assert (found.healthy, words in found.line, len(found.line.splitlines())) == (healthy, True, 1), found
    assert "patient" not in (tmp_path / "health.json").read_text()


def test_a_process_that_hangs_is_noticed(tmp_path: Path, clock: ManualClock, vitals: Vitals) -> None:
    vitals(HERE)
    clock.advance(40)
    assert judged(tmp_path / "health.json", clock.wall()).healthy
    clock.advance(40)
    assert "silent for 1 m 20 s" in judged(tmp_path / "health.json", clock.wall()).line
    vitals.beat()
    assert judged(tmp_path / "health.json", clock.wall()).healthy


def test_nobody_is_there_before_and_after(tmp_path: Path, clock: ManualClock, vitals: Vitals) -> None:
    vitals.close()
    vitals.close()
    found = judged(tmp_path / "health.json", clock.wall())
    assert (found.healthy, "no client runs here" in found.line) == (False, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"beat": "x"}', b"\xff"])
def test_a_damaged_file_is_no_health(tmp_path: Path, clock: ManualClock, content: bytes) -> None:
    (tmp_path / "health.json").write_bytes(content)
    found = judged(tmp_path / "health.json", clock.wall())
    assert (found.healthy, "cannot be read" in found.line) == (False, True)


def test_where_health_is_looked_for(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "site" / "client"
    folder.mkdir(parents=True)
    (folder / "client.toml").write_text('coordinator = "fl:8443"\n')
    Vitals(folder / "health.json", "a", clock)(HERE)
    assert local(tmp_path / "site", {}, clock.wall()).healthy
    Vitals(tmp_path / "elsewhere", "b", clock)(AWAY)
    named = {"UNISONO_HEALTH_FILE": str(tmp_path / "elsewhere")}
    assert not local(tmp_path / "site", named, clock.wall()).healthy
    (folder / "client.toml").write_text(f"health_file = {json.dumps(str(tmp_path / 'elsewhere'))}\n")
    assert not local(tmp_path / "site", {}, clock.wall()).healthy
    with pytest.raises(BadConfiguration, match="give the folder that"):
        local(tmp_path / "nothing", {}, clock.wall())


def test_a_coordinator_that_cannot_be_asked_says_why(tmp_path: Path, clock: ManualClock) -> None:
    file = tmp_path / "coordinator.toml"
    file.write_text("ops_port = 1\n")
    found = local(tmp_path, {}, clock.wall())
    assert (found.healthy, "does not answer on 127.0.0.1:1" in found.line) == (False, True)
    assert "0.0.0.0" not in local(tmp_path, {"UNISONO_OPS_HOST": "0.0.0.0"}, clock.wall()).line  # noqa: S104
    with pytest.raises(BadConfiguration, match="ops_port is -1"):
        local(tmp_path, {"UNISONO_OPS_PORT": "-1"}, clock.wall())


def test_each_of_a_pool_is_the_first_site_that_is_free(tmp_path: Path) -> None:
    with claimed(tmp_path) as one:
        with claimed(tmp_path) as two, claimed(tmp_path) as three:
            assert [path.name for path in (one, two, three)] == ["site-1", "site-2", "site-3"]
        with claimed(tmp_path) as again:
            assert again == two  # who was it does not matter, that nobody is
    with claimed(tmp_path) as first:
        assert first == one


def test_a_join_waits_for_a_coordinator_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    halt, told, read = Halt(), list[tuple[str, float]](), list[int]()

    def away(*_: object) -> object:
        raise Unreachable("cannot reach fl:8443: its name does not resolve", 0.0)

    def trouble(why: str, again_in: float) -> None:
        told.append((why, again_in))
        if len(told) == 7:
            halt.ask()

    def token() -> str:
        read.append(1)
        return "uni1.x"

    monkeypatch.setattr(joining, "enrol", away)
    monkeypatch.setattr(halt, "wait", lambda seconds: halt.check())
    with pytest.raises(Halted):
        join_once(tmp_path / "client", "fl:8443", token, trouble, clock, halt)
    halt.close()
    assert [wait for _, wait in told] == [1, 2, 4, 8, 16, 30, 30]
    assert len(read) == 1
    assert not has_joined(tmp_path / "client", clock)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/var/lib/unisono/lock"), "chown -R"),
        (OSError(30, "Read-only file system", "/var/lib/unisono/lock"), "a volume, or tmpfs"),
    ],
)
def test_a_place_that_is_not_ours_says_what_to_do(
    capsys: pytest.CaptureFixture[str], error: OSError, words: str
) -> None:
    assert report(error) == CONFIGURATION
    said = capsys.readouterr().err
    assert said.startswith(f"/var/lib/unisono/lock: {error.strerror}\n  ")
    assert words in said
