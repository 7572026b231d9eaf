"""The operator's commands about plans and runs."""

import json
from pathlib import Path

import pytest
from admin_world import MODEL, PLAN, Desk, credentials, plan_file, round_of

from unisono.cli import main
from unisono.crypto import sha256_hex
from unisono.plan import digest, from_canonical, parse


def test_a_run_starts_with_the_plan_in_canonical_bytes(desk: Desk) -> None:
    assert desk.json("run", "start", plan_file(desk.folder), "--from", "r-0003") == {"id": "r-0007"}
    asked = desk.state.started[0]
    assert from_canonical(asked.plan).rounds.count == 3
    assert (asked.from_run, asked.model_sha256) == ("r-0003", b"")


def test_a_wrong_plan_is_refused_here_with_file_key_and_line(desk: Desk) -> None:
    file = plan_file(desk.folder, PLAN + '[aggregation]\nstratgy = "fedavg"\n')
    code, out, err = desk.run("run", "start", file)
    assert (code, out) == (3, "")
    assert err == f'{file}: [aggregation] stratgy is not a known key\n  line 7; did you mean "strategy"?\n'
    assert desk.run("run", "start", str(desk.folder / "none.toml"))[0] == 3
    assert not desk.state.started


def test_an_initial_model_goes_up_first_from_where_an_earlier_try_stopped(desk: Desk) -> None:
    (desk.folder / "first.safetensors").write_bytes(MODEL)
    desk.state.uploaded += MODEL[:1000]
    plan = plan_file(desk.folder, PLAN + '[model]\ninit = "first.safetensors"\n')
    code, out, err = desk.run("run", "start", plan)
    assert (code, bytes(desk.state.uploaded)) == (0, MODEL), err
    assert desk.state.started[0].model_sha256.hex() == sha256_hex(MODEL)
    assert out.startswith("r-0007 started: readmission, 3 rounds, sealed\n")
    (desk.folder / "first.safetensors").write_bytes(b"no model at all")
    assert desk.run("run", "start", plan)[0] == 3
    assert desk.run("run", "start", plan, "--from", "r-0001")[0] == 3


def test_a_run_can_be_watched_from_its_start(desk: Desk) -> None:
    code, out, _ = desk.run("run", "start", plan_file(desk.folder), "--watch")
    assert code == 0
    assert out.splitlines()[-1].endswith(f"event=ended state=finished model={sha256_hex(MODEL)}")


def test_runs_are_listed_shown_and_stopped(desk: Desk) -> None:
    assert desk.run("run", "list")[1].splitlines()[1].split()[:3] == ["r-0007", "running", "readmission"]
    code, out, _ = desk.run("run", "show")
    assert code == 0
    assert "1 of 2" in out
    assert "r-0007 finished: 2 rounds in 0.50 s   loss 0.5  accuracy 0.9" in out
    assert desk.json("run", "show", "r-0007") == desk.state.run()
    assert desk.run("run", "show", "r-0008") == (1, "", "there is no run r-0008\n")
    desk.state.reason = "stopped by someone in round 3"
    code, out, _ = desk.run("run", "stop", "r-0007")
    assert (code, out.splitlines()[0]) == (0, "r-0007 stopped by someone in round 3")
    assert "--from r-0007" in out


def test_a_long_run_is_fetched_page_by_page(desk: Desk) -> None:
    desk.state.long = 25
    code, out, err = desk.run("run", "show")
    assert (code, err) == (0, "23 earlier rounds are not shown: --all, or --rounds A:B\n")
    assert "r-0007 finished: 25 rounds in 6.2 s" in out
    assert not desk.state.pages
    for argv, pages, shown in (
        (["--all"], [(1, 0), (11, 0), (21, 0)], range(1, 26)),
        (["--rounds", "5:18"], [(5, 18), (15, 18)], range(5, 19)),
        (["--rounds", "24:"], [(24, 0)], range(24, 26)),
        (["--rounds", ":3"], [(1, 3)], range(1, 4)),
        (["--rounds", "90:"], [(90, 0)], range(0)),
    ):
        desk.state.pages.clear()
        found = desk.json("run", "show", *argv)
        assert desk.state.pages == pages
        assert found["rounds"] == [round_of(number) for number in shown]
        assert found["rounds_published"] == 25
    code, out, err = desk.run("run", "show", "--all")
    assert (code, err) == (0, "")
    assert out.count("1 of 2") == 25


def test_an_earlier_coordinator_sends_all_rounds_whatever_is_asked(desk: Desk) -> None:
    assert desk.json("run", "show", "--all") == desk.state.run()
    assert desk.json("run", "show", "--rounds", "2:2")["rounds"] == [round_of(2)]


@pytest.mark.parametrize("argv", [["3"], ["a:b"], ["4:2"], ["-1:2"], ["1:2:3"], ["2:3", "--all"]])
def test_a_range_of_rounds_that_is_none(desk: Desk, argv: list[str]) -> None:
    code, out, err = desk.run("run", "show", "--rounds", *argv)
    assert (code, out) == (3, "")
    assert "--rounds" in err


def test_a_failed_run_is_exit_code_one_with_its_reason(desk: Desk) -> None:
    desk.state.run_state, desk.state.reason = "failed", "too few"
    code, out, err = desk.run("run", "watch")
    assert code == 1
    assert "phase=collecting event=uploaded client=hospital-a" in out
    assert err.startswith("r-0007 failed: too few\n")
    code, out, _ = desk.run("run", "watch", "--json")
    assert (code, [json.loads(line)["state"] for line in out.splitlines()]) == (1, ["running", "failed"])


def test_plan_check_forecasts_and_asks_who_would_take_part(desk: Desk) -> None:
    file = plan_file(desk.folder)
    code, out, _ = desk.run("plan", "check", file, "--clients", "8", "--link", "20Mbit")
    assert code == 0
    assert f'{file} is valid: task "readmission", fedavg, sealed' in out
    assert "25.0 MB down and 25.0 MB up in a round: 20 s on 20Mbit" in out
    assert "1 of 2 connected would take part" in out
    assert "hospital-b no: offers no task 'readmission', only x" in out
    told = desk.json("plan", "check", file)
    assert told["plan_sha256"] == digest(parse(Path(file).read_bytes()))
    assert isinstance(told["forecast"], dict)
    assert told["forecast"]["bytes_down"] == 25_000_000


def test_plan_check_without_a_coordinator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = plan_file(tmp_path)
    assert main(["plan", "check", file, "--dir", str(tmp_path)]) == 0
    assert "cost      unknown: the clients make the model" in capsys.readouterr().out
    assert main(["plan", "check", file, "--dir", str(tmp_path), "--mb", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["forecast"]["bytes_down"] == 4_000_000
    assert told["clients"] is None
    (tmp_path / "first.safetensors").write_bytes(MODEL)
    file = plan_file(tmp_path, PLAN + '[model]\ninit = "first.safetensors"\n')
    assert main(["plan", "check", file, "--dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forecast"]["bytes_down"] == len(MODEL)
    credentials(tmp_path, "localhost:1")
    assert main(["plan", "check", file, "--dir", str(tmp_path)]) == 0
    assert "who would take part is unknown: cannot reach localhost:1" in capsys.readouterr().err
