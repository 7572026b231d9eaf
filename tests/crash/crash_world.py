"""A federation of real processes that die at a chosen system call, and what must hold when they came back.

`Control` is the memory that the shim shares with us; `World` is a coordinator, three clients and an operator;
`Story` runs one run in it with a death.
"""

import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from harness import CLIENTS, TASKS, Federation, eventually, listening
from nursery import Life, Nursery

from unisono import plan as plans
from unisono.base.errors import Error, NotFound, Unavailable
from unisono.client.runtime.channel import Channel, Credentials, call, open_channel
from unisono.wire.v1 import admin_pb2
from unisono.wire.v1.admin_pb2_grpc import AdminServiceStub

HERE = Path(__file__).parent
FIELDS = ("enabled", "count", "at", "after", "lose", "died")
KILL, POWER, TORN = 0, 1, 2  # ways to die: see shim.c
LOSSES = ("killed", "power", "torn")  # what tests call them
GB = 1 << 30
SEEDS = 24  # runs of one federation, each from another seed: none finds the files of an earlier one
PATIENCE = 60.0  # seconds for one run, deaths included, on a busy machine
Document = dict[str, Any]


class Quiet(Protocol):
    def __call__(self, protection: str) -> list[str]:
        """Return the models of undisturbed runs, by seed."""
        ...


def build_shim(folder: Path) -> Path:
    """Compile the shim with the system's compiler.  Skips, loudly, where there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("NOT TESTED: crash points need Linux and a C compiler (cc)")
    library = folder / "shim.so"
    words = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(library),
        str(HERE / "shim.c"),
        "-ldl",
        "-lpthread",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return library


def place() -> Path:
    """Return a folder in memory, where there is room: what a power failure takes is up to the shim."""
    memory = Path("/dev/shm")  # noqa: S108 - private to us by mkdtemp
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > GB
    return Path(tempfile.mkdtemp(prefix="unisono-crash-", dir=memory if roomy else None))


class Control:
    """What a process under the shim is told, and what it has counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def arm(self, at: int = 0, *, after: bool = False, lose: int = KILL) -> None:
        """Count from zero; die at call number `at` (0: never)."""
        self._set(enabled=0)
        self._set(count=0, at=at, after=after, lose=lose, died=0)
        self._set(enabled=1)

    def disarm(self) -> int:
        """Stop counting; return how many calls there were."""
        self._set(enabled=0)
        return self["count"]

    def spare(self) -> None:
        """Forget a death."""
        self._set(died=0)

    def jump(self, seconds: float) -> None:
        """Move the process's wall clock; its monotonic one stays."""
        self._memory[48:56] = struct.pack("d", seconds)

    def do_not_sync(self, part: str) -> None:
        """Take fsync away from all paths that hold `part`."""
        self._memory[56:120] = part.encode().ljust(64, b"\0")

    def __getitem__(self, name: str) -> int:
        place = 8 * FIELDS.index(name)
        return int(struct.unpack("q", self._memory[place : place + 8])[0])

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            place = 8 * FIELDS.index(name)
            self._memory[place : place + 8] = struct.pack("q", int(value))


class World:
    """A coordinator and three clients in one folder; each can be armed."""

    def __init__(self, nursery: Nursery, federation: Federation) -> None:
        self.nursery, self.federation = nursery, federation
        self.root = federation.root
        names = ("coordinator", *CLIENTS, "operator")
        self.controls = {name: Control(self.root / f"{name}.control") for name in names}
        self.lives: dict[str, Life] = {}
        self.marks = False
        self.runs = 0
        self.deaths = dict.fromkeys(names, 0)
        self.again: dict[str, tuple[int, int]] = {}  # at which call the next life ends, and how
        self._channel: Channel | None = None

    def folder(self, name: str) -> Path:
        if name == "coordinator":
            return self.federation.operator / "coordinator"
        return self.federation.site(name) / "client"

    def trace(self, name: str) -> Path:
        return self.root / f"{name}.trace"

    def start(self, name: str) -> Life:
        """Start a process."""
        if name == "coordinator":
            words = ["serve", "--dir", str(self.federation.operator), "--host", "127.0.0.1"]
        else:
            words = ["client", "--dir", str(self.federation.site(name)), "--task", f"arrays={TASKS}:Arrays"]
        life = self.nursery.start(
            words,
            self.root / f"{name}.log",
            control=str(self.controls[name].path),
            root=str(self.folder(name)),
            trace=str(self.trace(name)) if self.marks else "",
            marks=self.marks,
        )
        self.lives[name] = life
        return life

    def listens(self) -> None:
        """Wait for the coordinator.  Starts it again if it dies, as it may be told to."""
        end = time.monotonic() + PATIENCE
        while not listening(self.federation.port):
            self.revive()
            assert time.monotonic() < end, self.lives["coordinator"].text
            time.sleep(0.005)

    def revive(self) -> None:
        """Start again whoever has died."""
        for name, life in list(self.lives.items()):
            if not life.ended.is_set():
                continue
            assert life.status == -9, f"{name} ended by itself, {life.status}:\n{life.text[-4000:]}"
            self.deaths[name] += 1
            control, again = self.controls[name], self.again.pop(name, None)
            control.disarm()
            control.spare()
            if again is not None:
                control.arm(again[0], lose=again[1])
            self.start(name)

    def settled(self, name: str) -> None:
        """Count no more; if the process has just been told to die, wait for its next life."""
        self.controls[name].disarm()
        if self.controls[name]["died"]:
            assert self.lives[name].ended.wait(10)
            self.again.pop(name, None)
            self.revive()
            self.listens()

    def begin(self) -> None:
        for name in ("coordinator", *CLIENTS):
            self.start(name)
        self.listens()

    def told(self) -> None:
        """Wait until every client has heard how the last run ended, and tidied up."""
        folders = [self.folder(name) / "updates" for name in CLIENTS]

        def left() -> list[str]:
            return [path.name for folder in folders for path in folder.iterdir()]

        eventually(lambda: not left(), 20, lambda: f"updates were left: {left()}")

    def stop(self) -> None:
        """Stop everything as an operator would."""
        self._close()
        for name in (*CLIENTS, "coordinator"):
            if name in self.lives:
                life = self.lives.pop(name)
                with suppress(ProcessLookupError):
                    os.kill(life.pid, 15)
                assert life.ended.wait(30), f"{name} does not end:\n{life.text[-2000:]}"
                assert life.status == 0, f"{name}: {life.status}\n{life.text[-4000:]}"

    def kill(self) -> None:
        self._close()
        for life in self.lives.values():
            with suppress(ProcessLookupError):
                os.killpg(life.pid, 9)
        for life in self.lives.values():
            life.ended.wait(10)
        self.lives.clear()

    # what an operator does

    def command(self, *words: str) -> Document:
        """Run a command that answers with JSON, at the operator's own time."""
        log = self.root / "operator.log"
        log.unlink(missing_ok=True)
        life = self.nursery.start(
            [*words, "--dir", str(self.federation.operator)],
            log,
            control=str(self.controls["operator"].path),
            root=str(self.root / "operator"),
        )
        assert life.ended.wait(PATIENCE), life.text
        assert life.status == 0, life.text
        document: Document = json.loads(life.text)
        return document

    def ask(self, method: str, request: object) -> Document:
        """Return a document.  Raises our errors; the next try gets a new connection."""
        if self._channel is None:
            credentials = Credentials.read(self.federation.operator / "admin", "admin")
            self._channel = open_channel(credentials, f"localhost:{self.federation.port}")
        try:
            reply = call(getattr(AdminServiceStub(self._channel), method), request, 10.0)
        except Error:
            self._close()
            raise
        document: Document = json.loads(reply.json)
        return document

    def start_run(self, plan: bytes) -> str:
        """Start a run; if the answer was lost, find out whether it was started."""
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(Unavailable):
                runs = self.ask("ListRuns", admin_pb2.ListRequest())["runs"]
                assert len(runs) >= self.runs, "a run that was acknowledged is gone"
                if len(runs) > self.runs:
                    self.runs = len(runs)
                    return str(runs[0]["id"])
                found = str(self.ask("StartRun", admin_pb2.StartRunRequest(plan=plan))["id"])
                self.runs += 1
                return found
            assert time.monotonic() < end, self.lives["coordinator"].text[-3000:]
            self.revive()
            time.sleep(0.01)

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


@dataclass(frozen=True, slots=True)
class Point:
    """Where a process dies: at which call of its run, on which side of it, and what that takes along."""

    call: int
    after: bool = False
    lose: int = KILL
    again: int = 0  # and once more, at this call of its next life

    def __str__(self) -> str:
        way = ("", " losing what is not synced", " losing bytes that are not synced")[self.lose]
        more = f", again at call {self.again} of its next life" if self.again else ""
        return f"{'after' if self.after else 'before'} call {self.call}{way}{more}"


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a run."""

    document: Document
    died: bool
    calls: int  # that the victim made, if it lived

    @property
    def model(self) -> str:
        return str(self.document["model_sha256"])


def story(world: World, victim: str, plan: bytes, point: Point | None) -> Ended:
    """Run a plan; the victim dies once.  What was shown to the operator stays true."""
    control = world.controls[victim]
    if point is None:
        control.arm()
    else:
        control.arm(point.call, after=point.after, lose=point.lose)
    before = world.deaths[victim]
    if point is not None and point.again:
        world.again[victim] = point.again, point.lose
    run = world.start_run(plan)
    end = time.monotonic() + PATIENCE
    shown: dict[int, str] = {}
    document: Document = {}
    while document.get("state") not in ("finished", "failed", "stopped"):
        assert time.monotonic() < end, f"{point}: {json.dumps(document)}"
        world.revive()
        time.sleep(0.01)
        with suppress(Unavailable), known(run):
            document = world.ask("ShowRun", admin_pb2.RunRequest(run=run))
            rounds = {entry["round"]: entry["model_sha256"] for entry in document["rounds"]}
            lost = {k: v for k, v in shown.items() if rounds.get(k) != v}
            assert not lost, f"{point}: shown as published, and gone: {lost}"
            shown = {k: v for k, v in rounds.items() if v}
    calls = control["count"]
    world.settled(victim)
    return Ended(document, world.deaths[victim] > before, calls)


@contextmanager
def known(run: str) -> Iterator[None]:
    """A run that was acknowledged is there."""
    try:
        yield
    except NotFound as error:
        raise AssertionError(f"{run} was acknowledged and is gone: {error}") from None


def plan_text(protection: str, seed: int, rounds: int = 1, seconds: float = 0.0) -> str:
    """Return a small plan for all three clients."""
    return f"""
        task = "arrays"
        seed = {seed}
        [rounds]
        count = {rounds}
        idle_seconds = 30.0
        [cohort]
        size = 3
        wait_seconds = 30.0
        [protection]
        mode = "{protection}"
        [task_parameters]
        size = 50
        seconds = {seconds}
    """


def plan_bytes(protection: str, seed: int, rounds: int = 1, seconds: float = 0.0) -> bytes:
    """Return the same as it is sent."""
    return plans.canonical(plans.parse(plan_text(protection, seed, rounds, seconds).encode()))


@contextmanager
def opened(nursery: Nursery, enrolled: Federation, *, marks: bool = False) -> Iterator[World]:
    """Yield a federation of its own, running."""
    with ExitStack() as stack:
        root = place()
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        world = World(nursery, enrolled.copy(root / "all"))
        world.marks = marks
        stack.callback(world.kill)
        world.begin()
        yield world
