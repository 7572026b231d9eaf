"""One site: the real client on its folder, in a greenlet that blocks where the real one's thread does."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from greenlet import getcurrent, greenlet
from sim_fate import Doom, Fate, Killed
from sim_time import MachineClock
from sim_wire import Broken, Call, Channel, Sleep, Want, want

from unisono.base.clock import Clock
from unisono.client.config import Config
from unisono.client.policy import Policy
from unisono.client.runtime import link, site, uploads
from unisono.client.runtime.channel import Credentials
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.notices import Notice
from unisono.client.runtime.trainer_process import (
    Answer,
    Described,
    Finished,
    Moved,
    Opened,
    Progress,
    TaskFailure,
    TrainerProcess,
)
from unisono.client.runtime.vault import Vault
from unisono.client.session import Left
from unisono.client.trainer.desk import Desk

CHUNKS = {"sealed": 60, "secagg": 2000}  # bytes, so that small updates take several
CONFIG = Config(tasks={"units": "sim_task:Units"}, reconnect_seconds=4.0)
POLICY = Policy(protections=("secagg", "sealed"), min_cohort=1)


class Process(greenlet):
    """The greenlet of a site."""

    site: "Site"


def _here() -> "Site":
    current = getcurrent()
    assert isinstance(current, Process)
    return current.site


class Pause(Halt):
    """Sleeps in virtual time."""

    def wait(self, seconds: float) -> None:
        self.check()
        want(Sleep(_here().clock.ticks() + seconds))
        self.check()


class Bench(TrainerProcess):
    """The trainer's own code without a process of its own."""

    def __init__(self, log: Path, idle_seconds: float, clock: Clock, halt: Halt) -> None:
        self._desk: Desk | None = None
        self._clock = clock

    @property
    def alive(self) -> bool:
        return self._desk is not None

    def start(self) -> None:
        self._desk = self._desk or Desk(lambda stage, done, total: None)

    def stop(self) -> None:
        self._desk = None

    def ask(self, request: Mapping[str, object], progress: Progress) -> Answer:
        self.start()
        assert self._desk is not None
        if request["do"] == "work":
            self._work(progress)
        answer: dict[str, Any] = self._desk.answer(request)
        match answer:
            case {"opened": found}:
                return Opened.model_validate(found)
            case {"described": found}:
                return Described.model_validate(found)
            case {"done": found}:
                return Finished.model_validate(found)
        raise TaskFailure(answer["failed"]["code"], answer["failed"]["text"])

    def _work(self, progress: Progress) -> None:
        """Take as long as this site takes, reporting on the way if it does."""
        here = _here()
        if here.raises:
            here.raises -= 1
            raise TaskFailure("task_error", "the task raised an error")
        end = self._clock.ticks() + here.slow
        while (left := end - self._clock.ticks()) > 0:
            want(Sleep(self._clock.ticks() + min(2.0, left)))
            if not here.mute:
                progress(Moved(stage="training", done=1, total=2))


class Kept(Vault):
    """A vault whose process may end before or after each transaction, and whose disk may be full."""

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Any]:
        with _here().fate.around(), super().transaction(durable=durable) as db:
            yield db


@dataclass(eq=False)
class Site:
    """A folder, and the process that works in it, if one does."""

    name: str
    number: int
    folder: Path
    clock: MachineClock
    want: Want | None = None  # what the process waits for; None: there is none
    since: float = 0.0
    fate: Fate = field(default_factory=Fate)
    slow: float = 0.0  # seconds that training takes
    mute: bool = False  # without progress
    raises: int = 0  # times that the task fails
    left: Left | None = None
    seen: list[Notice] = field(default_factory=list)
    process: Process | None = None
    lives: int = 0

    def start(self) -> None:
        """Begin a process."""
        assert self.want is None
        self.halt = Pause()
        self.fate.doom, self.left = Doom(), None
        self.lives += 1
        self.process = Process(self._live)
        self.process.site = self
        self.resume(None)

    def _live(self, _: object) -> None:
        world = site.World(self.seen.append, self.clock, self.halt)
        with site.opened(self.folder, CONFIG, POLICY, world) as driver:
            self.left = driver.run()

    def resume(self, value: object) -> None:
        """Give the process what it waited for, and let it go on to where it waits again."""
        self._switch(lambda process: process.switch(value))

    def fail(self, error: Broken) -> None:
        """Let what the process waits for fail."""
        self._switch(lambda process: process.throw(error))

    def kill(self) -> None:
        if self.want is not None:
            self._switch(lambda process: process.throw(Killed()))

    def _switch(self, go: Callable[[Process], Want | None]) -> None:
        process = self.process
        assert process is not None
        self.want = None
        try:
            found = go(process)
        except (Killed, sqlite3.OperationalError):  # a disk that is full at the start ends the process
            found = None
        if process.dead:
            self.halt.close()
            return
        assert found is not None
        self.want, self.since = found, self.clock.ticks()

    @property
    def call(self) -> Call | None:
        return None if self.want is None or isinstance(self.want, Sleep) else self.want.call


def _open_channel(credentials: Credentials, address: str, clock: Clock) -> Channel:
    credentials.check(clock.wall())
    here = _here()
    return Channel(here.name, credentials.certificate, here.clock.ticks)


@contextmanager
def sites_of_this_world(mode: str) -> Iterator[None]:
    """Put the simulation's seams into the client's modules."""
    with ExitStack() as patches:
        for place, name, seam in (
            (site, "TrainerProcess", Bench),
            (site, "Vault", Kept),
            (site, "SystemRandom", lambda: Random(_here().number)),  # noqa: S311
            (link, "open_channel", _open_channel),
            (link, "stall_guard", lambda cancel, seconds: nullcontext(lambda: None)),
            (uploads, "CHUNK", CHUNKS[mode]),
        ):
            patches.enter_context(patch.object(place, name, seam))
        yield
