"""What the operator's commands make of missing, foreign, expired and renewed credentials."""

import stat
from pathlib import Path

import pytest
from admin_world import DAY, NOW, Desk, credentials

from unisono.cli import main
from unisono.identity import Authority, peer_of


def test_an_unreachable_coordinator_is_exit_code_five(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    credentials(tmp_path, "localhost:1")
    for argv in (["run", "list"], ["run", "watch"], ["health"], ["model", "list"]):
        assert main([*argv, "--dir", str(tmp_path), "--json"]) == 5
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("cannot reach localhost:1: ")


def test_an_expired_certificate_is_exit_code_four(desk: Desk) -> None:
    credentials(desk.folder, desk.address, age=31 * DAY)
    code, _, err = desk.run("run", "list")
    assert code == 4
    assert "expired" in err


def test_a_federation_of_someone_else_is_not_trusted(desk: Desk) -> None:
    credentials(desk.folder, desk.address, ca=Authority.create("other", NOW))
    code, _, err = desk.run("run", "list")
    assert code == 5
    assert "not from this federation's CA" in err


def test_a_folder_that_is_none_says_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "list", "--dir", str(tmp_path)]) == 3
    assert "no admin.toml in" in capsys.readouterr().err
    folder = credentials(tmp_path, "nonsense")
    assert main(["run", "list", "--dir", str(folder)]) == 3
    assert 'coordinator must be "host:port"' in capsys.readouterr().err


def test_the_certificate_is_renewed_by_any_command_once_due(desk: Desk) -> None:
    folder = credentials(desk.folder, desk.address, age=19 * DAY)
    before = (folder / "admin.key").read_bytes(), (folder / "admin.pem").read_bytes()
    assert desk.run("run", "list")[0] == 0
    assert (folder / "admin.key").read_bytes() == before[0]  # not yet
    credentials(desk.folder, desk.address, age=21 * DAY)
    before = (folder / "admin.key").read_bytes(), (folder / "admin.pem").read_bytes()
    assert desk.run("run", "list") == desk.run("run", "list")
    assert desk.state.renewals == 1
    after = (folder / "admin.key").read_bytes(), (folder / "admin.pem").read_bytes()
    assert after[0] != before[0]
    assert peer_of(after[1]).not_after > NOW + 29 * DAY
    assert stat.S_IMODE((folder / "admin.key").stat().st_mode) == 0o600
