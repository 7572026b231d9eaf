"""The rest of the client's side: starts a trainer process for a question and reads its answer.

Imports nothing of the trainer, so that a parent never holds torch.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unisono.base.errors import BadConfiguration, Fault

COMMAND = (sys.executable, "-m", "unisono.client.trainer")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `unisono task check`: what was tried, how it went, what to do about it."""

    step: str
    state: Literal["ok", "problem", "note"]
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a task is run outside of a federation."""

    data: Path | None = None
    plan: Path | None = None
    name: str = "check"
    number: int = 1
    device: str = "auto"

    def flags(self) -> list[str]:
        found = ["--name", self.name, "--number", str(self.number), "--device", self.device]
        for flag, path in (("--data", self.data), ("--plan", self.plan)):
            found += [flag, str(path)] if path else []
        return found


def environment() -> dict[str, str]:
    """Return the environment of a trainer: ours, with the order of sets fixed for user code."""
    return {**os.environ, "PYTHONHASHSEED": "0"}


def check(task: str, setting: Setting = Setting()) -> tuple[Finding, ...]:
    """Try one batch of everything that a task does, in a process of its own; its output goes to stderr."""
    lines, status = _asked(["--check", "--task", task, *setting.flags()])
    found = [Finding(**line["finding"]) for line in lines]
    if status:
        found.append(
            Finding("process", "problem", _ending(status), "look at what it wrote on standard error")
        )
    return tuple(found)


def predict(task: str, model: Path, out: Path, setting: Setting = Setting()) -> int:
    """Write a prediction for every row of `eval_data()`; return the rows.  Raises BadConfiguration, Fault."""
    lines, status = _asked(
        ["--predict", "--task", task, "--model", str(model), "-o", str(out), *setting.flags()]
    )
    match lines:
        case [{"predicted": {"rows": int(rows)}}]:
            return rows
        case [{"failed": {"detail": str(detail)}}]:
            raise BadConfiguration(detail)
    raise Fault(_ending(status))


def _asked(flags: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [*COMMAND, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment(), check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def _ending(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
