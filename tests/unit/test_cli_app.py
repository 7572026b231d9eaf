"""The command line itself: lazy, quiet, and one exit code per family of errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unisono.base.errors import (
    BadConfiguration,
    BadCredentials,
    Corrupt,
    Error,
    Fault,
    NotEnrolled,
    NotFound,
    Unavailable,
    Unreachable,
)
from unisono.cli import app, main, table
from unisono.cli.outcomes import exit_code, report
from unisono.cli.output import note, print_json
from unisono.cli.verbosity import is_verbose, set_verbose

HEAVY = ("torch", "grpc", "sqlalchemy", "numpy", "unisono.server", "unisono.client")


def use(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Make `unisono version` run a function of this file."""
    entry = table.Entry("version", "Try.", f"{__name__}:{function}", table.ONE_MACHINE)
    monkeypatch.setattr(app, "TABLE", (entry,))


def raises_three_lines() -> None:
    raise BadConfiguration("plan.toml: wrong\n  line 3\n  do this\n  and never this")


def raises_the_unexpected() -> None:
    raise ZeroDivisionError("nothing over nothing")


def is_interrupted() -> None:
    raise KeyboardInterrupt("r-0007 goes on")


def returns_one() -> int:
    return 1


def answers_json() -> None:
    note("on the way")
    print_json({"id": "r-0001"})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadConfiguration("x"), 3),
        (BadCredentials("x"), 4),
        (NotEnrolled("x"), 4),
        (Unreachable("x", 1.0), 5),
        (Unavailable("x", 1.0), 1),
        (NotFound("x"), 1),
        (Corrupt("x"), 1),
        (Fault("x"), 1),
        (ValueError("x"), 1),
        (OSError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_family_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_every_error_class_of_ours_has_a_code() -> None:
    def descendants(family: type[Error]) -> set[type[Error]]:
        return {family}.union(*(descendants(child) for child in family.__subclasses__()))

    assert {exit_code(kind.__new__(kind)) for kind in descendants(Error)} == {1, 3, 4, 5}


def test_help_is_fast_and_imports_no_part() -> None:
    script = (
        "import sys, time; from unisono.cli import main; code = main(['--help'])\n"
        "print(time.process_time(), file=sys.stderr)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603
    seconds, heavy = done.stderr.splitlines()
    assert (done.returncode, heavy) == (0, "[]")
    assert "plan" in done.stdout
    assert float(seconds) < 0.8  # of the processor; 0.25 where this was written, torch alone would cost more


def test_every_target_of_the_table_is_a_string_into_a_part() -> None:
    for entry in table.TABLE:
        module, _, function = entry.target.partition(":")
        assert module.startswith("unisono."), entry
        assert function.isidentifier(), entry
        above = entry.words.rpartition(" ")[0]
        assert not above or above in {*table.GROUPS, *(other.words for other in table.TABLE)}, entry


@pytest.mark.parametrize("argv", [[], ["run"], ["model"], ["nosuch"], ["run", "strat"], ["version", "extra"]])
def test_a_wrong_command_line_is_a_usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) <= 3
    assert "Usage" in shown.out or "--help" in shown.err


def test_a_command_may_have_commands_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`unisono client` runs, and `unisono client plans` is another command; both have their own help."""
    assert main(["client", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--trainer" not in shown
    assert all(word in shown for word in ("--task", "plans", "Take part in runs"))
    assert main(["client", "plans", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("--json", "approve", "reject", "show"))
    assert "--task" not in shown
    assert main(["client", "plnas"]) == 2
    assert "plnas" in capsys.readouterr().err


def test_a_mistyped_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "strat"])
    assert capsys.readouterr().err.startswith("unisono run: no such command 'strat'")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first = capsys.readouterr().out
    assert main(["version"]) == 0
    assert capsys.readouterr().out == first
    assert first.startswith("unisono ")


def test_an_error_has_at_most_three_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "raises_three_lines")
    assert main(["version"]) == 3
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "plan.toml: wrong\n  line 3\n  do this\n")


def test_a_traceback_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "raises_the_unexpected")
    assert main(["version"]) == 1
    quiet = capsys.readouterr().err
    assert quiet.startswith("internal fault: ZeroDivisionError: nothing over nothing\n")
    assert "Traceback" not in quiet
    assert main(["version", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert main(["-v", "version"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_verbose_does_not_last_into_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "returns_one")
    main(["version", "-v"])
    assert is_verbose()
    main(["version"])
    assert not is_verbose()


def test_an_interrupt_says_what_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "is_interrupted")
    assert main(["version"]) == 130
    assert capsys.readouterr().err == "r-0007 goes on\n"


def test_a_command_chooses_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "returns_one")
    assert main(["version"]) == 1


def test_stdout_is_json_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "answers_json")
    assert main(["version"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"id": "r-0001"}
    assert shown.err == "on the way\n"


def test_a_file_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    set_verbose(False)
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "missing").read_bytes()
    assert report(caught.value) == 1
    assert capsys.readouterr().err == f"{tmp_path}/missing: No such file or directory\n"


@pytest.mark.parametrize("words", ["r", "ru"])
def test_completion_knows_the_commands_without_importing_them(words: str) -> None:
    script = "import sys; from unisono.cli import main; sys.exit(main([]))"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        env={"_UNISONO_COMPLETE": "complete_bash", "COMP_WORDS": f"unisono {words}", "COMP_CWORD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "run" in done.stdout.split(), done.stderr
