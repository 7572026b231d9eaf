"""How a client is, in a file that its own process keeps: what a container's health check reads.

A client opens no port, so nobody can ask it.  Its main thread writes this file every few seconds, which
shows that the process runs, and what troubles it, which the driver's notices say.  The reader is
`unisono.base.probe`: it needs nothing of the client's, no lock, no key, no connection.
"""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

from unisono.base.clock import Clock
from unisono.base.units import show_seconds

from .notices import CannotReach, ClocksDiffer, Connected, Notice, Stepped, WorkFailed

BEAT_SECONDS = 5.0


class Vitals:
    """Keeps the file.  Called by the driver's thread with notices and by the main thread with beats."""

    def __init__(self, file: Path, name: str, clock: Clock, state: str = "starting") -> None:
        self._file, self._clock = file, clock
        self._name, self._state, self._problems = name, state, dict[str, str]()
        self.beat()

    def __call__(self, notice: Notice) -> None:
        """Take in what the driver tells."""
        match notice:
            case Connected(federation=federation, name=name):
                self._name, self._state = f"{name} of {federation}", "connected"
                self.cured("connection", "clock")
            case CannotReach(reason=reason):
                self._state = "away"
                self.trouble("connection", reason)
            case ClocksDiffer(seconds=seconds):
                way = "behind" if seconds > 0 else "ahead of"
                apart = show_seconds(abs(seconds))
                self.trouble("clock", f"this machine's clock is {apart} {way} the coordinator's: set it")
            case WorkFailed(run=run, round=number, text=text):
                self.trouble("task", f"{run}, round {number}: {text}; trainer.log has more")
            case Stepped(what="training"):
                self.cured("task")

    def trouble(self, kind: str, text: str) -> None:
        """Say from now on that something is wrong."""
        self._problems = {**self._problems, kind: " ".join(text.split())}
        self.beat()

    def cured(self, *kinds: str) -> None:
        """Say no more of it."""
        self._problems = {kind: text for kind, text in self._problems.items() if kind not in kinds}
        self.beat()

    def beat(self) -> None:
        """Write the file: whole or not at all.  It need not outlive a power failure, so nothing is synced."""
        state = self._state  # starting, joining, connected, away
        told = {"beat": self._clock.wall(), "name": self._name, "state": state, "problems": self._problems}
        data = json.dumps(told).encode()
        part = self._file.with_name(f"{self._file.name}.{os.urandom(4).hex()}")  # two threads may write
        try:
            part.write_bytes(data)
            part.replace(self._file)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            self._write_over(data)

    def _write_over(self, data: bytes) -> None:
        """Say on a full disk that the process lives: into the room that the file has."""
        if self._file.exists() and len(data) <= self._file.stat().st_blocks * 512:
            with suppress(OSError), self._file.open("r+b", buffering=0) as file:
                file.write(data)
                file.truncate(len(data))

    def close(self) -> None:
        """Take the file away: nobody is here any more."""
        self._file.unlink(missing_ok=True)
