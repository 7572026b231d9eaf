"""A federation of real processes in a folder of its own, driven by the command line that a user types."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

UNISONO = str(Path(sys.executable).with_name("unisono"))
NOOP = Path(__file__).with_name("noop.py")
PLAN = """\
task = "noop"
seed = 1

[rounds]
count = {rounds}
idle_seconds = 300

[cohort]
size = {clients}

[protection]
mode = "{protection}"

[task_parameters]
mb = {mb}
"""


class Failed(Exception):
    """A process did not do what it should; its log is in the message."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured."""

    mb: float = 25.0
    clients: int = 8
    rounds: int = 10
    protection: str = "sealed"
    task: str = f"noop={NOOP}:NoOp"


@dataclass(slots=True)
class Federation:
    """`init`, `serve`, `token create`, `join`, `client`; leaving the context ends every process."""

    folder: Path
    setting: Setting
    port: int = 0
    coordinator: "subprocess.Popen[bytes] | None" = None
    clients: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def found(self) -> None:
        """Make the federation and let every client in."""
        self.port = free_port()
        self.command("init", str(self.home), "--host", "localhost", "--port", str(self.port))
        self.serve()
        token = self.folder / "token"
        many = ["--uses", str(self.setting.clients), "--name-prefix", "site"]
        self.command("token", "create", *many, "-o", str(token), "--dir", str(self.home))

        def join(number: int) -> None:
            where = ["--token", str(token), "--dir", str(self.site(number))]
            self.command("join", f"localhost:{self.port}", *where)
            policy = self.site(number) / "client" / "policy.toml"
            policy.write_text('protections = ["secagg", "sealed"]\n', encoding="utf-8")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(join, range(1, self.setting.clients + 1)))

    def serve(self) -> None:
        """Start the coordinator; return when its port answers."""
        self.coordinator = self.start(
            "coordinator", "serve", "--dir", str(self.home), "--host", "127.0.0.1", "--ops-port", "0"
        )
        for _ in self.patience(60, "the coordinator to listen"):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return

    def start_clients(self) -> None:
        """Start every client."""
        self.clients = [self._client(number) for number in range(1, self.setting.clients + 1)]

    def connected(self) -> None:
        """Wait until every client is connected."""
        for _ in self.patience(120, "the clients to connect", step=0.3):
            if self.ask("health", "--dir", str(self.home))["clients_online"] == len(self.clients):
                return

    def run(self, rounds: int) -> str:
        """Start a run; return its id."""
        values = {"rounds": rounds, "clients": self.setting.clients, "mb": self.setting.mb}
        return self.run_plan(PLAN.format(protection=self.setting.protection, **values))

    def run_plan(self, text: str) -> str:
        """Start a run of this plan; return its id."""
        plan = self.folder / "plan.toml"
        plan.write_text(text)
        return str(self.ask("run", "start", str(plan), "--dir", str(self.home))["id"])

    def finished(self, run: str) -> dict[str, Any]:
        """Wait for the end of a run; return the document of `run show`."""
        for _ in self.patience(1800, f"the end of {run}", step=0.2):
            if self._rows("SELECT state FROM runs WHERE id = ?", run)[0][0] in {
                "finished",
                "failed",
                "stopped",
            }:
                break
        document = self.ask("run", "show", run, "--dir", str(self.home))
        if document["state"] != "finished":
            raise Failed(f"{run} {document['state']}: {document['reason']}")
        return document

    def published(self, run: str) -> list[float]:
        """Return when the run was started and when each round was published, by the wall clock.

        Read from the coordinator's state, not asked: a question would take its time from what is measured.
        """
        started = self._rows("SELECT created_wall FROM runs WHERE id = ?", run)[0][0]
        query = "SELECT published_wall FROM rounds WHERE run = ? AND published_wall NOT NULL ORDER BY round"
        return [started, *(row[0] for row in self._rows(query, run))]

    def stop(self) -> None:
        """End every process, trainers included."""
        running = [*self.clients, *([self.coordinator] if self.coordinator else [])]
        for process in running:
            process.terminate()
        until = time.monotonic() + 10
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.clients, self.coordinator = [], None

    # processes

    @property
    def home(self) -> Path:
        return self.folder / "federation"

    def site(self, number: int) -> Path:
        return self.folder / f"site-{number}"

    def start(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command that stays."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [UNISONO, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def command(self, *words: str) -> str:
        """Run a command; return what it printed."""
        done = subprocess.run([UNISONO, *words], capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise Failed(f"unisono {' '.join(words)}\n{done.stdout}{done.stderr}{self._logs()}")
        return done.stdout

    def ask(self, *words: str) -> dict[str, Any]:
        """Run a command with --json; return its object."""
        found = json.loads(self.command(*words, "--json"))
        if not isinstance(found, dict):
            raise Failed(f"unisono {' '.join(words)} printed no object")
        return found

    def patience(self, seconds: float, what: str, step: float = 0.01) -> Iterator[None]:
        """Yield until `seconds` are over; then, or when a process has ended, raise Failed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            yield
            for process in (*self.clients, self.coordinator):
                if process is not None and process.poll() is not None:
                    raise Failed(f"a process ended while waiting for {what}{self._logs()}")
            time.sleep(step)
        raise Failed(f"waited {seconds:.0f} s for {what}{self._logs()}")

    def _client(self, number: int) -> "subprocess.Popen[bytes]":
        site = self.site(number)
        offer = ["--task", self.setting.task, "--data", str(site)]
        return self.start(f"site-{number}", "client", "--dir", str(site), *offer)

    def _rows(self, query: str, run: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.home}/coordinator/state.db?mode=ro", uri=True)) as database:
            return database.execute(query, (run,)).fetchall()

    def _logs(self) -> str:
        found = ""
        for log in sorted(self.folder.glob("*.log"))[:3]:
            found += f"\n--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
