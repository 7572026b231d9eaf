"""One life of the real coordinator on its folder: hall, store, driver, services; no threads, no sockets.

Everything that touches the disk goes through `Inline`, which is where a life ends and where disks fail.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import grpc
from sim_fate import Disk, Doom, Killed
from sim_plan import BEAT, LONG_POLL
from sim_time import MachineClock
from sim_wire import Call, Server

from unisono.base.ids import RunId
from unisono.crypto import AtRest
from unisono.server import process
from unisono.server.config import Config
from unisono.server.folder import Folder
from unisono.server.runtime import coordinator
from unisono.server.runtime.coordinator import Coordinator
from unisono.server.runtime.operators import Operators
from unisono.server.runtime.workers import Workers
from unisono.server.services import server as services
from unisono.server.store import Change, Store, open_store, store

P = ParamSpec("P")
T = TypeVar("T")
Saved = Callable[[RunId, Change], None]
_SHARED: dict[str, Any] = {}  # statements of the store are compiled once for all worlds
_WRITES = frozenset({"append", "finish", "write", "commit", "draft_model"})


class Inline(Workers):
    """All work is done at once, in the loop: the order of things is the world's alone."""

    def __init__(self, house: "House") -> None:
        self._house = house

    async def database(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(lambda: work(*args, **kwargs), "")

    async def file(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(lambda: work(*args, **kwargs), getattr(work, "__name__", ""))

    async def sum(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(lambda: work(*args, **kwargs), "sum")

    async def open(self, work: Callable[[], T], release: Callable[[T], None]) -> T:
        return await self._do(work, "open")

    def close(self) -> None: ...

    async def _do(self, work: Callable[[], T], what: str) -> T:
        house = self._house
        await asyncio.sleep(0)
        house.alive()
        ends = house.doom.meet()
        if ends and not house.doom.after:
            raise house.die()
        if what:
            (house.disk.write if what in _WRITES else house.disk.touch)()
        done = work()
        if ends:
            raise house.die()
        await asyncio.sleep(0)
        house.alive()
        return done


@dataclass(eq=False)
class House:
    """One process."""

    folder: Folder
    clock: MachineClock
    disk: Disk
    saved: Saved
    doom: Doom = field(default_factory=Doom)
    dead: bool = False
    opened: bool = False
    server: Server = field(default_factory=Server)

    def __post_init__(self) -> None:
        config = Config(min_free_bytes=0, long_poll_seconds=LONG_POLL)
        with (
            patch.object(process, "SystemClock", lambda: self.clock),
            patch.object(process, "Workers", lambda *_, **__: Inline(self)),
            patch.object(process, "open_store", self._open_store),
            patch.object(store, "migrate", lambda database: None),  # the template is of this version
            patch.object(grpc.aio, "server", lambda *_, **__: self.server),
        ):
            self.hall = process.open_hall(self.folder, config)
            self.coordinator = Coordinator(self.hall)
            services.build(self.hall, self.coordinator)
        acceptance: Any = None  # `start_run` with a plan alone needs none
        self.operators = Operators(self.hall, self.coordinator, acceptance)

    def _open_store(self, folder: Path, at_rest: AtRest | None = None) -> Store:
        opened = open_store(folder, at_rest)
        database = opened._database
        for kind in ("_engine", "_writer"):
            compiled = _SHARED.setdefault("compiled", {})
            engine = getattr(database, kind).execution_options(compiled_cache=compiled)
            engine.dialect = _SHARED.setdefault("dialect", engine.dialect)
            setattr(database, kind, engine)
        write, save = database.write, opened.save

        @contextmanager
        def guarded() -> Iterator[Any]:
            self.disk.write()
            with write() as connection:
                yield connection

        def saving(run: RunId, change: Change) -> tuple[int, ...]:
            numbers = save(run, change)
            self.saved(run, change)
            return numbers

        database.write = guarded  # type: ignore[method-assign]
        opened.save = saving  # type: ignore[method-assign]
        return opened

    async def open(self) -> None:
        coordinator.BEAT = BEAT
        await self.coordinator.open()
        self.opened = True

    def alive(self) -> None:
        if self.dead:
            raise Killed

    def die(self) -> Killed:
        self.dead = True
        return Killed()

    def serve(self, call: Call, raw: bytes | None) -> None:
        """Let a call reach its handler."""
        call.house = self
        call.task = asyncio.ensure_future(self.server.answer(call, raw))

    async def bury(self, keep: "asyncio.Task[Any]") -> None:
        """Take the process away: tasks, connections to the database, the folder's lock."""
        self.dead = True
        tasks = [task for task in asyncio.all_tasks() if task is not keep]
        for task in tasks:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(found, Exception) and not isinstance(found, asyncio.CancelledError):
                raise found
        self.hall.store.close()
