"""Processes by fork from one that has everything imported: in milliseconds, where a start takes a second."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread

ZYGOTE = Path(__file__).with_name("zygote.py")


@dataclass(slots=True, eq=False)
class Life:
    """One process, from its fork to its end.  Some of what `subprocess.Popen` can do."""

    pid: int
    log: Path
    ended: Event = field(default_factory=Event)
    status: int = 0

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self.status if self.ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        if not self.ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return self.status

    def send_signal(self, number: int) -> None:
        if not self.ended.is_set():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Forks processes on request, each the leader of a session of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("UNISONO_")}
        self._popen = subprocess.Popen(  # noqa: S603
            [sys.executable, ZYGOTE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean | dict(environment),
        )
        self._lives: dict[int, Life] = {}
        self._early: dict[int, int] = {}
        self._pids: list[int] = []
        self._news, self._one, self._books = Event(), Lock(), Lock()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, words: list[str], log: Path, **more: object) -> Life:
        """Start `unisono WORDS`; zygote.py says what there may be `more`."""
        with self._one:
            self._news.clear()
            assert self._popen.stdin is not None
            self._popen.stdin.write(json.dumps({"words": words, "log": str(log)} | more) + "\n")
            self._popen.stdin.flush()
            assert self._news.wait(20), "the nursery does not answer"
            life = Life(self._pids.pop(), log)
        with self._books:
            self._lives[life.pid] = life
            if life.pid in self._early:
                self._end(life.pid, self._early.pop(life.pid))
        return life

    def close(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(20)
        self._reader.join(20)
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            match json.loads(line):
                case {"pid": pid}:
                    self._pids.append(pid)
                    self._news.set()
                case {"ended": pid, "status": status}:
                    with self._books:
                        if pid in self._lives:
                            self._end(pid, status)
                        else:
                            self._early[pid] = status

    def _end(self, pid: int, status: int) -> None:
        life = self._lives.pop(pid)
        life.status = status
        life.ended.set()
