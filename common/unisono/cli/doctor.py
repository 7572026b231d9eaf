"""`unisono doctor`: one command for a site, an operator and a coordinator, whichever is in the folder.

It knows the parts that examine by name only, as the table of commands does.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration

from .options import Dir, Json
from .outcomes import DONE, exit_code_of
from .output import print_json

if TYPE_CHECKING:
    from unisono.probe import Ask, Finding, Subject

EXAMINERS = ("unisono.server.doctor", "unisono.client.doctor")
_Address = Annotated[
    str, typer.Argument(metavar="[HOST:PORT]", help="A coordinator, if not that of the folder.")
]
_Token = Annotated[
    Path | None, typer.Option("--token", metavar="FILE", help="A join token, looked at and not used.")
]


def doctor(
    address: _Address = "", directory: Dir = Path(), token: _Token = None, as_json: Json = False
) -> int:
    """Look for what is wrong: settings, certificates, clock, disk, each step to the coordinator.

    Each line is ok, warning or failure, with what to do.  Exits 0 when nothing failed.
    """
    from unisono.base.system_clock import SystemClock
    from unisono.probe import Ask

    text = _text(token)
    with _progress() as say:
        ask = Ask(directory, address, text, SystemClock(), os.environ, say)
        return examined(ask, as_json=as_json)


def examined(ask: "Ask", *, as_json: bool = False) -> int:
    """Run every check there is, print them, return the exit code of the first failure."""
    documents, failures, warnings, code = list[dict[str, object]](), 0, 0, DONE
    for subject in _subjects(ask):
        if not as_json:
            print(_title(subject))
        checks = list[dict[str, object]]()
        for finding in subject.checks:
            ask.say("")
            failures, warnings = failures + finding.failed, warnings + (finding.status == "warning")
            if finding.failed and code == DONE:
                code = exit_code_of(finding.family)
            checks.append(_document(finding))
            if not as_json:
                print(_line(finding), flush=True)
        folder = str(subject.folder) if subject.folder else None
        documents.append({"kind": subject.kind, "name": subject.name, "folder": folder, "checks": checks})
    if not documents:
        raise BadConfiguration(
            f"nothing to examine in {ask.directory}: no coordinator, operator or site is there\n"
            "  --dir DIR as made by unisono init or join, or HOST:PORT, with --token FILE if there is one"
        )
    if as_json:
        print_json({"failures": failures, "warnings": warnings, "code": code, "subjects": documents})
    else:
        print(_summary(failures, warnings))
    return code


def _subjects(ask: "Ask") -> Iterator["Subject"]:
    for name in EXAMINERS:
        examine: Callable[[Ask], Iterator[Subject]] = import_module(name).examine
        yield from examine(ask)


def _title(subject: "Subject") -> str:
    where = f"   {subject.folder}" if subject.folder else ""
    name = "" if subject.name == subject.kind else subject.name
    return f"{subject.kind} {name}".rstrip() + where


def _line(finding: "Finding") -> str:
    line = f"  {finding.status:<8} {finding.what:<16} {finding.words}"
    return f"{line}\n{'':27} {finding.advice}" if finding.advice else line


def _document(finding: "Finding") -> dict[str, object]:
    return {
        "check": finding.what,
        "status": finding.status,
        "words": finding.words,
        "advice": finding.advice or None,
    }


def _summary(failures: int, warnings: int) -> str:
    said = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((failures, "failure"), (warnings, "warning"))
        if count
    ]
    return ", ".join(said) or "all is well"


def _text(token: Path | None) -> str | None:
    if token is None:
        return None
    try:
        return token.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadConfiguration(f"--token {token}: not a text file") from None


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being waited for: a firewall that drops everything takes five seconds."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.status import Status

    shown = Status("", console=Console(stderr=True))

    def say(what: str) -> None:
        if what:
            shown.update(f"  {what} ...")
            shown.start()
        else:
            shown.stop()

    try:
        yield say
    finally:
        shown.stop()
