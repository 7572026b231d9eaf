"""What every command says about itself, as golden files: a changed flag or sentence shows in a review.

The files hold the words and not typer's drawing of them, which changes with its version.  `pytest --rewrite`
writes them anew.
"""

from pathlib import Path

import pytest

from unisono.cli import main
from unisono.cli.app import load
from unisono.cli.table import TABLE, Entry

GOLDEN = Path(__file__).parent.parent / "golden"


def said(entry: Entry) -> str:
    """Write a command's name, help and parameters, one line each."""
    command = load(entry.target)
    lines = [f"unisono {entry.words}: {entry.help}", "", *(command.help or "").strip().splitlines(), ""]
    for parameter in command.params:
        names = ", ".join((*parameter.opts, *parameter.secondary_opts))
        kind = parameter.param_type_name
        shown = parameter.metavar or names if kind == "argument" else names
        needed = ", required" if parameter.required else ""
        lines.append(f"{kind} {shown}{needed}: {getattr(parameter, 'help', None) or '-'}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.words.replace(" ", "-"))
def test_help_is_as_agreed(entry: Entry, pytestconfig: pytest.Config) -> None:
    golden, found = GOLDEN / f"{entry.words.replace(' ', '-')}.txt", said(entry)
    if pytestconfig.getoption("--rewrite"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {entry.words.replace(" ", "-") for entry in TABLE}


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.words.replace(" ", "-"))
def test_help_is_drawn_with_every_flag(entry: Entry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*entry.words.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    for parameter in load(entry.target).params:
        if parameter.param_type_name == "option":
            assert any(name in shown for name in parameter.opts), parameter.opts


def test_every_parameter_explains_itself() -> None:
    for entry in TABLE:
        for parameter in load(entry.target).params:
            assert getattr(parameter, "help", None), f"{entry.words} {parameter.name} has no help"
