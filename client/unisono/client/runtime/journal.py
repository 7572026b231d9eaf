"""The client's own log: one JSON object a line in client.log, readable by its owner only."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import structlog

from .notices import CannotReach, ClocksDiffer, Moved, Notice, Refusal, SatOut, WorkFailed

Level = Literal["debug", "info", "warning", "error"]
_LEVELS: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Journal:
    """Writes notices down.  What a task said stays here: `detail` never travels."""

    def __init__(self, path: Path, level: Level) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", buffering=1)
        self._moves = level == "debug"
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(self._file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        )

    def __call__(self, notice: Notice) -> None:
        match notice:
            case Moved() if not self._moves:
                return
            case Moved():
                say = self._log.debug
            case CannotReach() | ClocksDiffer() | Refusal() | SatOut() | WorkFailed():
                say = self._log.warning
            case _:
                say = self._log.info
        say(type(notice).__name__, **asdict(notice))

    def close(self) -> None:
        self._file.close()
