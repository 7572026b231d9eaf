"""A federation of real processes for tests: mutual TLS, disks, ports; killed and restarted as one likes.

`found` makes one with three enrolled clients; `Federation.copy` gives each test its own within milliseconds.
Everything goes through the command line that users type.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any

from nursery import Life, Nursery

CLIENTS = ("anna", "bela", "cora")
TASKS = Path(__file__).with_name("tasks.py")
PROTECTIONS = ("secagg", "sealed")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
Document = dict[str, Any]
Running = subprocess.Popen[bytes] | subprocess.Popen[str] | Life
_NUMBERS = count()  # of files that nobody else has


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Process:
    """One process in the background, the leader of a session of its own, with what it wrote."""

    def __init__(self, popen: Running, log: Path) -> None:
        self.popen, self.log = popen, log

    @classmethod
    def begun(cls, words: list[str], log: Path, environment: Mapping[str, str]) -> "Process":
        """Start a program as anybody does."""
        with log.open("ab") as file:
            popen = subprocess.Popen(  # noqa: S603
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
        return cls(popen, log)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def wait(self, seconds: float = 20.0) -> int:
        return self.popen.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Ask it to end, as an operator would; return its exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, to the process and whatever it started: as if the power failed."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def says(self, words: str, seconds: float = 20.0) -> None:
        """Wait until it has written `words`."""
        eventually(
            lambda: words in self.text, seconds, lambda: f"{self.log.name} never said {words!r}:\n{self.text}"
        )


class Watch:
    """`unisono run start PLAN --watch --json`: every document, as it comes."""

    def __init__(self, popen: Running, lines: Callable[[], IO[str]]) -> None:
        self.popen, self.documents, self._news = popen, list[Document](), Condition()
        self._lines = lines
        self._thread = Thread(target=self._read)
        self._thread.start()

    def until(self, condition: Callable[[Document], bool], seconds: float = 30.0) -> Document:
        """Return the first document for which `condition` holds."""
        end, seen = time.monotonic() + seconds, 0
        with self._news:
            while True:
                for document in self.documents[seen:]:
                    if condition(document):
                        return document
                seen = len(self.documents)
                left = end - time.monotonic()
                if left <= 0 or (self.popen.poll() is not None and not self._news.wait(0.5)):
                    raise AssertionError(f"the run did not get there: {self._last()}")
                self._news.wait(left)

    def _last(self) -> str:
        if not self.documents:
            return "nothing was heard of it"
        return json.dumps({**self.documents[-1], "events": self.events[-5:]})

    def ended(self, seconds: float = 60.0) -> Document:
        document = self.until(lambda d: d["state"] in ("finished", "failed", "stopped"), seconds)
        self.popen.wait(10)
        return document

    def finished(self, seconds: float = 60.0) -> Document:
        document = self.ended(seconds)
        assert document["state"] == "finished", document["reason"]
        return document

    @property
    def events(self) -> list[Document]:
        return [event for document in self.documents for event in document["events"]]

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self._thread.join()

    def _read(self) -> None:
        with self._lines() as lines:
            for line in lines:
                with self._news:
                    self.documents.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()


@dataclass(slots=True)
class Federation:
    """Folders of a coordinator, its operator and its clients, and the processes that run now."""

    root: Path
    port: int
    processes: list[Process] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    nursery: Nursery | None = None  # that makes processes; without one they are started as a user starts them

    @property
    def operator(self) -> Path:
        return self.root / "federation"

    def site(self, name: str) -> Path:
        return self.root / name

    def copy(self, root: Path) -> "Federation":
        """Return a federation of its own with the same members, on another port."""
        shutil.copytree(self.root, root)
        copied = Federation(root, free_port(), nursery=self.nursery)
        for file in root.rglob("*.toml"):
            file.write_text(file.read_text().replace(str(self.port), str(copied.port)))
        return copied

    def settings(self, **values: object) -> None:
        """Add to coordinator.toml."""
        with (self.operator / "coordinator" / "coordinator.toml").open("a") as file:
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

    def policy(self, name: str, protections: tuple[str, ...] = PROTECTIONS, **keys: object) -> None:
        """Write a site's policy.toml, which allows both protections unless said otherwise."""
        told = {"protections": list(protections), **keys}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items())
        (self.site(name) / "client" / "policy.toml").write_text(text)

    # commands

    def cli(self, *words: str | Path, seconds: float = 60.0) -> Done:
        """Run one command to its end."""
        if self.nursery is not None:
            return self._forked(self.nursery, list(map(str, words)), seconds)
        done = subprocess.run(  # noqa: S603
            self._words(*words), capture_output=True, text=True, timeout=seconds, env=self._env(), check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def _forked(self, nursery: Nursery, words: list[str], seconds: float) -> Done:
        number = next(_NUMBERS)
        out, err = (self.root / f"{number}.{what}" for what in ("out", "err"))
        out.touch()
        life = nursery.start(words, err, out=str(out), environment=self._ours())
        try:
            return Done(life.wait(seconds), out.read_text(), err.read_text())
        finally:
            life.kill()
            out.unlink()
            err.unlink()

    def ok(self, *words: str | Path) -> str:
        """Run one command that must succeed; return what it said."""
        done = self.cli(*words)
        assert done.code == 0, f"unisono {' '.join(map(str, words))}: {done.code}\n{done.out}{done.err}"
        return done.out

    def operate(self, *words: str | Path) -> Document:
        """Run a reading command of the operator and return its document."""
        answer: Document = json.loads(self.ok(*words, "--json", "--dir", self.operator))
        return answer

    def token(self, name: str, *more: str) -> Path:
        file = self.root / f"{name}-{len(list(self.root.glob(f'{name}-*.token')))}.token"
        self.ok("token", "create", name, "-o", file, *more, "--dir", self.operator)
        return file

    def tokens(self, *names: str) -> list[Path]:
        """Make some tokens at the same time."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.token, names))

    def join(self, name: str, token: Path) -> Done:
        """Let a site in; its policy allows both protections."""
        done = self.cli("join", f"localhost:{self.port}", "--token", token, "--dir", self.site(name))
        if done.code == 0:
            self.policy(name)
        return done

    # processes

    def serve(self, *, wait: bool = True) -> Process:
        """Start the coordinator; return when it listens."""
        process = self._start("coordinator", "serve", "--dir", self.operator, "--host", "127.0.0.1")
        if wait:
            eventually(
                lambda: not process.running or listening(self.port),
                20,
                lambda: f"no coordinator:\n{process.text}",
            )
            assert process.running, process.text
        return process

    def client(self, name: str, task: str = "Arrays", *more: str) -> Process:
        """Start a client that offers the task "arrays"."""
        return self._start(
            name, "client", "--dir", self.site(name), "--task", f"arrays={TASKS}:{task}", *more
        )

    def clients(self, *names: str) -> list[Process]:
        return [self.client(name) for name in names]

    def run(self, plan: str) -> Watch:
        """Start a run and follow it."""
        file = self.root / "plan.toml"
        file.write_text(plan)
        words = ["run", "start", str(file), "--watch", "--json", "--dir", str(self.operator)]
        self.watches.append(self._watch(words))
        return self.watches[-1]

    def _watch(self, words: list[str]) -> Watch:
        if self.nursery is None:
            popen = subprocess.Popen(self._words(*words), stdout=subprocess.PIPE, text=True, env=self._env())  # noqa: S603
            assert popen.stdout is not None
            stdout = popen.stdout
            return Watch(popen, lambda: stdout)
        pipe, log = (self.root / f"watch-{len(self.watches)}.{what}" for what in ("pipe", "log"))
        os.mkfifo(pipe)
        life = self.nursery.start(words, log, out=str(pipe), environment=self._ours())
        return Watch(life, pipe.open)

    def script(self, name: str, *words: str | Path) -> Process:
        """Start another Python program that belongs to the test."""
        return self._begin(name, [sys.executable, *map(str, words)])

    def trains(self, name: str, number: int) -> None:
        """Wait until a client is in the middle of training round `number`: its task's log says so."""
        log = self.site(name) / "client" / "trainer.log"
        said = f"training in round {number}\n"
        eventually(
            lambda: log.exists() and said in log.read_text(),
            30,
            lambda: f"{name} never trained in round {number}",
        )

    def spool(self) -> list[Path]:
        """Return the uploads that the coordinator has, whole or not (".part")."""
        return sorted((self.operator / "coordinator" / "spool").glob("*/*"))

    def close(self) -> None:
        """Kill everything; print the logs, which pytest shows if the test failed; remove the folders."""
        self.end()
        for log in sorted(self.root.glob("*.log")) + sorted(self.root.glob("*/client/trainer.log")):
            print(f"--- {log.relative_to(self.root)}\n{log.read_text(errors='replace')[-4000:]}")
        shutil.rmtree(self.root)

    def end(self) -> None:
        """Kill everything."""
        for process in self.processes:
            process.kill()
        for watch in self.watches:
            watch.close()

    def _start(self, name: str, *words: str | Path) -> Process:
        if self.nursery is None:
            return self._begin(name, self._words(*words))
        log = self._log(name)
        life = self.nursery.start(list(map(str, words)), log, environment=self._ours())
        self.processes.append(Process(life, log))
        return self.processes[-1]

    def _begin(self, name: str, words: list[str]) -> Process:
        self.processes.append(Process.begun(words, self._log(name), self._env()))
        return self.processes[-1]

    def _log(self, name: str) -> Path:
        log = self.root / f"{len(self.processes):02}-{name}.log"
        log.touch()
        return log

    def _words(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-m", "unisono.cli", *map(str, words)]

    def _env(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("UNISONO_")}
        return clean | self._ours()

    def _ours(self) -> dict[str, str]:
        """Return what processes are told: short pauses before another attempt, one thread each."""
        ours = {"UNISONO_RECONNECT_SECONDS": "0.5", **ONE_THREAD, "no_grpc_proxy": "localhost"}
        ours["UNISONO_OPS_PORT"] = "-1"  # many coordinators at a time; a test that looks at it asks for it
        return ours | self.environment


def found(root: Path) -> Federation:
    """Make a federation with three members, nothing of it running."""
    federation = Federation(root, free_port())
    root.mkdir(parents=True)
    federation.ok("init", federation.operator, "--host", "localhost", "--port", str(federation.port))
    try:
        coordinator = federation.serve()
        for name, token in zip(CLIENTS, federation.tokens(*CLIENTS), strict=True):
            joined = federation.join(name, token)
            assert joined.code == 0, joined.err
        assert coordinator.stop() == 0, coordinator.text
    finally:
        federation.end()
    return federation


def plan(count: int = 3, size: int = 2, task: str = "arrays", **sections: Document) -> str:
    """Return a plan of `count` rounds for `size` clients; `sections` adds keys to its tables.

    It is "sealed" unless `protection` says otherwise: two clients do for most tests, one for some.
    The section `parameters` is [task_parameters].
    """
    tables: dict[str, Document] = {
        "rounds": {"count": count, "idle_seconds": 20.0},
        "cohort": {"size": size, "wait_seconds": 20.0},
        "protection": {"mode": "sealed"},
    }
    for name, keys in sections.items():
        tables[name] = tables.get(name, {}) | keys
    tables["task_parameters"] = tables.pop("parameters", {})
    text = f"task = {json.dumps(task)}\nseed = 3\n"
    for name, keys in tables.items():
        text += f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return text


def eventually(condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Wait until `condition` holds, looking every few milliseconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(why())
        time.sleep(0.002)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
