"""The client's own log: one JSON object a line in client.log, readable by its owner only."""

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TextIO, cast

import structlog

from .notices import CannotReach, ClocksDiffer, Moved, Notice, ReceiptRefused, Refusal, SatOut, WorkFailed

Level = Literal["debug", "info", "warning", "error"]
_LEVELS: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Paper:
    """The file, a write a line.  Lines that find no room are counted: nobody's work ends for them."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lost, self._torn = 0, False

    def write(self, text: str) -> None:
        if self._lost:
            text = (
                json.dumps({"event": "LinesLost", "lines": self._lost, "reason": "disk full"}) + "\n" + text
            )
        data = (("\n" if self._torn else "") + text).encode()
        try:
            while data:
                written = os.write(self._file, data)
                self._torn, data = True, data[written:]
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            self._lost += 1
            return
        self._lost, self._torn = 0, False

    def flush(self) -> None:
        """There is nothing to flush: structlog asks after every line."""

    def close(self) -> None:
        os.close(self._file)


class Journal:
    """Writes notices down.  What a task said stays here: `detail` never travels.

    On a full disk lines are lost, the client is not: how many is the first thing it writes again.
    """

    def __init__(self, path: Path, level: Level) -> None:
        self._file = _Paper(path)
        self._moves = level == "debug"
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(cast("TextIO", self._file)),
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
            case CannotReach() | ClocksDiffer() | ReceiptRefused() | Refusal() | SatOut() | WorkFailed():
                say = self._log.warning
            case _:
                say = self._log.info
        say(type(notice).__name__, **asdict(notice))

    def close(self) -> None:
        self._file.close()
