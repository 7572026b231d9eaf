"""The federation that chaos plays with: processes and folders, and what may be done to them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ballast import Disk
from cables import Cables
from timetable import COORDINATOR

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits_cnn" / "task.py"
LEAST_FREE = 2_000_000  # the coordinator's min_free_bytes, on its small disk
SETTINGS = f"min_free_bytes = {LEAST_FREE}\nops_port = -1\n"
Document = dict[str, Any]


class Trouble(Exception):
    """The federation did not do what it must whatever is done to it."""


@dataclass(slots=True)
class Stage:
    """Folders and processes.  `put` writes a line to the log."""

    root: Path
    clients: tuple[str, ...]
    cables: Cables
    put: Callable[..., None]
    disks: dict[str, Disk] = field(default_factory=dict)
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def operator(self) -> Path:
        return self.root / "federation"

    def site(self, client: str) -> Path:
        return self.root / client

    def state(self, who: str) -> Path:
        """Return the folder that `who` must not lose."""
        return self.operator / "coordinator" if who == COORDINATOR else self.site(who) / "client"

    # before the play

    def found(self, port: int) -> None:
        """Make the federation and let the clients in, over links that work."""
        hosts = [word for name in self.cables.names for word in ("--host", name)]
        self.command("init", str(self.operator), *hosts, "--port", str(port))
        with (self.state(COORDINATOR) / "coordinator.toml").open("a") as file:
            file.write(SETTINGS)
        self.start(COORDINATOR)
        self.listening()
        token = self.root / "token"
        many = ["--uses", str(len(self.clients)), "--name-prefix", "site"]
        self.command("token", "create", *many, "-o", str(token), "--dir", str(self.operator))
        for client in self.clients:  # one after another: the token numbers them as they come
            words = ["join", self.cables.address(client), "--token", str(token), "--dir"]
            self.command(*words, str(self.site(client)), at=client)
        self.end()

    def listening(self, seconds: float = 60.0) -> None:
        """Wait until the coordinator answers its operator."""
        until = time.monotonic() + seconds
        while self.run("health", "--json", "--dir", str(self.operator)).returncode not in {0, 1}:
            if time.monotonic() > until or COORDINATOR not in self.alive():
                raise Trouble(
                    f"the coordinator does not answer:\n{self.log(COORDINATOR).read_text()[-2000:]}"
                )
            time.sleep(0.1)

    def mount(self, size: int) -> None:
        """Give everybody a small disk."""
        for who in (COORDINATOR, *self.clients):
            self.disks[who] = Disk.mount(self.state(who), size)

    # processes

    def log(self, who: str) -> Path:
        return self.root / f"{who}.log"

    def start(self, who: str) -> None:
        """Start the coordinator or a client; what it says goes to its log."""
        with self.log(who).open("ab") as log:
            self.processes[who] = subprocess.Popen(
                [*self.cables.inside(who), *self._words(who)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(), start_new_session=True,
            )  # fmt: skip
        self.put("started", who=who, pid=self.processes[who].pid)

    def _words(self, who: str) -> list[str]:
        unisono = [sys.executable, "-m", "unisono.cli"]
        if who == COORDINATOR:
            return [*unisono, "serve", "--dir", str(self.operator), "--host", "0.0.0.0"]  # noqa: S104 - a namespace
        return [*unisono, "client", "--dir", str(self.site(who)), "--task", f"digits={DIGITS}:Digits"]

    def alive(self) -> set[str]:
        return {who for who, process in self.processes.items() if process.poll() is None}

    def kill(self, who: str) -> None:
        """SIGKILL to the process alone."""
        self._signal(who, signal.SIGKILL)
        self.processes[who].wait()

    def power(self, who: str) -> None:
        """SIGKILL to the process, its trainer and all they started."""
        for pid in self.trainers(who):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.processes[who].pid, signal.SIGKILL)
        self.processes[who].wait()

    def kill_trainer(self, who: str) -> int:
        """SIGKILL to a client's trainer; return how many there were."""
        found = self.trainers(who)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def pause(self, who: str) -> None:
        self._signal(who, signal.SIGSTOP)

    def resume(self, who: str) -> None:
        self._signal(who, signal.SIGCONT)

    def trainers(self, who: str) -> list[int]:
        """Return the processes that `who` has started."""
        parent = self.processes[who].pid
        return [pid for pid, found in _parents() if found == parent]

    def end(self) -> None:
        """Kill everything that was started here."""
        for who in self.alive():
            self.resume(who)
            self.power(who)

    def _signal(self, who: str, number: signal.Signals) -> None:
        process = self.processes[who]
        if process.poll() is None:  # not yet waited for, so the number is still its own
            process.send_signal(number)

    # the operator

    def run(self, *words: str, at: str = COORDINATOR) -> "subprocess.CompletedProcess[str]":
        command = [*self.cables.inside(at), sys.executable, "-m", "unisono.cli", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, env=_environment()
        )

    def command(self, *words: str, at: str = COORDINATOR) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*words, at=at)
        if done.returncode:
            raise Trouble(f"unisono {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, *words: str) -> Document:
        answer: Document = json.loads(self.command(*words, "--json", "--dir", str(self.operator)))
        return answer

    def watch(self, out: Path, *words: str) -> "subprocess.Popen[bytes]":
        """Start an operator's command that goes on beside us; its documents go to `out`."""
        command = [*self.cables.inside(COORDINATOR), sys.executable, "-m", "unisono.cli", "run", *words]
        with out.open("ab") as documents, self.log("operator").open("ab") as log:
            return subprocess.Popen(
                [*command, "--json", "--dir", str(self.operator)],
                stdin=subprocess.DEVNULL, stdout=documents, stderr=log, env=_environment(),
                start_new_session=True,
            )  # fmt: skip


def _environment() -> dict[str, str]:
    """Return what processes inherit: no proxy in the way, short pauses, one thread each."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("UNISONO_")}
    ours = {"UNISONO_RECONNECT_SECONDS": "2", "OMP_NUM_THREADS": "1", "no_grpc_proxy": "localhost,10.0.0.0/8"}
    return clean | ours


def _parents() -> list[tuple[int, int]]:
    """Return (process, its parent) for all processes that there are to see."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                text = (folder / "stat").read_text()
                found.append((int(folder.name), int(text.rsplit(")", 1)[1].split()[1])))
    return found
