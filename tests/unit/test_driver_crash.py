"""Crash everywhere: before and after every touch of the world, and once more in every life after that.

What is on `Disk` survives a kill; nothing else does.  The real Driver and the real machine run on it, in real
tasks, with clients that see the run through; only the store and the effects are played.  Drivers that are
wrong on purpose show that the harness would find one that is wrong by mistake.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import ParamSpec, TypeVar

import pytest
from structlog.testing import capture_logs

from unisono import plan as plans
from unisono.base.clock import ManualClock
from unisono.base.errors import Error, Refused, Unavailable
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import sha256_hex
from unisono.plan import Plan
from unisono.server.rounds import (
    Aggregate,
    Aggregated,
    Effect,
    Ended,
    Event,
    Fact,
    Forget,
    Joined,
    ModelReceived,
    Prune,
    Run,
    ToConsider,
    ToSendModel,
    ToWork,
    Uploaded,
    begin,
    decode,
    duty,
    encode,
)
from unisono.server.runtime.driver import Driver, _answer, _Letter
from unisono.server.runtime.workers import Workers
from unisono.server.store import Change, Stored

RUN = RunId("r-0001")
PLAN = Plan.model_validate(
    {"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 2}, "rounds": {"count": 2}}
)
PLAN_BYTES = plans.canonical(PLAN)
CLIENTS = (ClientName("a"), ClientName("b"))
MANIFEST, FIRST = sha256_hex(b"manifest"), sha256_hex(b"model")
P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = 3000  # turns of the event loop; a quiet life takes some hundred


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    with capture_logs():
        yield


class Killed(BaseException):
    """The process is gone: no `except Exception` sees it, as none would see SIGKILL."""


class Inline(Workers):
    """Threads would make the order of things another one each time."""

    async def database(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(0)
        return work(*args, **kwargs)


@dataclass
class Disk:
    """What survives."""

    run: str
    round: int = 0
    todo: dict[int, Effect] = field(default_factory=dict)
    ordered: list[Effect] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    carried_out: list[Effect] = field(default_factory=list)
    spool: set[tuple[int, int, ClientName, Digest]] = field(default_factory=set)
    models: dict[Digest, int] = field(default_factory=dict)  # digest -> round
    wrong: list[str] = field(default_factory=list)

    def stored(self) -> Stored:
        return Stored(PLAN_BYTES, decode(self.run), 0.0, tuple(self.todo.items()))

    def outcome(self) -> tuple[object, ...]:
        """What must not depend on crashes."""
        return self.run, self.todo, self.models, self.spool, set(map(str, self.ordered))


@dataclass
class Life:
    """One process: store and world of one driver, which dies at its `death`-th touch, before or after it."""

    disk: Disk
    death: int = -1
    after: bool = False
    slow: bool = False  # the first round's leftovers are cleared away only when the next one is over
    touches: int = 0
    dead: bool = False

    def touch(self, work: Callable[[], None]) -> None:
        if self.dead:
            raise Killed
        self.touches += 1
        self.dead = self.touches == self.death
        if not self.dead or self.after:
            work()
        if self.dead:
            raise Killed

    # the driver's store

    def save(self, run: RunId, change: Change) -> tuple[int, ...]:
        disk = self.disk
        first = len(disk.ordered)
        numbers = tuple(range(first, first + len(change.effects)))

        def write() -> None:
            disk.run, disk.round = encode(change.run), change.run.round
            disk.todo = {n: e for n, e in disk.todo.items() if n not in change.done}
            disk.todo |= dict(zip(numbers, change.effects, strict=True))
            disk.ordered += change.effects
            disk.events += change.events

        self.touch(write)
        return numbers

    # the driver's world

    async def act(self, run: RunId, effect: Effect) -> Event | None:
        await asyncio.sleep(0)
        while self.slow and not isinstance(effect, Aggregate) and self.disk.round < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if effect not in self.disk.todo.values() and not self.dead:
            self.disk.wrong.append(f"{effect.kind} was carried out and not on the saved list")
        event: list[Event] = []
        self.touch(lambda: event.extend(self._carry_out(effect)))
        await asyncio.sleep(0)
        return event[0] if event else None

    def changed(self, run: RunId, before: Run, facts: tuple[Fact, ...]) -> None:
        pass

    def _carry_out(self, effect: Effect) -> list[Event]:
        disk = self.disk
        disk.carried_out.append(effect)
        match effect:
            case Forget(round_, attempt):
                disk.spool = {entry for entry in disk.spool if entry[:2] > (round_, attempt)}
            case Prune(round_, keep):
                disk.models = {m: r for m, r in disk.models.items() if r > round_ or m in keep}
            case Aggregate(round_, attempt, what, _, updates, model):
                lost = [u for u in updates if (round_, attempt, *u) not in disk.spool]
                if lost or model not in disk.models:
                    disk.wrong.append(f"round {round_} misses {lost or model}")
                if what == "evaluate":
                    return [Aggregated(round_, attempt, model)]
                made = sha256_hex(repr((model, updates)).encode())
                disk.models[made] = round_
                return [Aggregated(round_, attempt, made, bounds=(1.0,))]
        return []


async def client(driver: Driver, life: Life, name: ClientName) -> None:
    """Do what there is to do until the run is over; whoever is not answered asks again."""
    while not isinstance(driver.run.stage, Ended):
        await asyncio.sleep(0)
        event = work(driver, life.disk, name)
        if event is None:
            continue
        try:
            await driver.handle(event)
        except (Refused, Unavailable):
            continue
        if not life.dead and event not in life.disk.events:
            life.disk.wrong.append(f"{type(event).__name__} was answered and not saved")


def work(driver: Driver, disk: Disk, name: ClientName) -> Event | None:
    match duty(PLAN, driver.run, name):
        case ToConsider():
            return Joined(name, MANIFEST, FIRST)
        case ToSendModel(model):
            disk.models[model] = 0
            return ModelReceived(name, model, 1.0)
        case ToWork(round_, attempt):
            digest = sha256_hex(f"{name} {round_}".encode())
            disk.spool.add((round_, attempt, name, digest))
            return Uploaded(name, round_, attempt, digest, 10)
        case _:
            return None


async def live(kind: type[Driver], life: Life) -> bool:
    """Live one life; return whether the run came to its end in it."""
    workers = Inline(1)
    driver = kind(RUN, PLAN, life.disk.stored(), life, life, workers, ManualClock())
    main = asyncio.create_task(driver.live())
    others = [asyncio.create_task(client(driver, life, name)) for name in CLIENTS]
    for _ in range(PATIENCE):
        await asyncio.sleep(0)
        if main.done() or life.dead:
            break
    else:
        life.disk.wrong.append("the run stands still")
        life.dead = True
    ended = main.done() and not life.dead
    for task in (main, *others):
        task.cancel()
    await asyncio.gather(main, *others, return_exceptions=True)
    workers.close()
    return ended


def founded() -> Disk:
    return Disk(encode(begin(PLAN, 0.0).run))


@cache
def quiet(slow: bool) -> tuple[Disk, int]:
    """Return what a life without any crash comes to, and how often it touches the world."""
    life = Life(founded(), slow=slow)
    assert asyncio.run(live(Driver, life))
    assert life.disk.wrong == []
    return life.disk, life.touches


def told(kind: type[Driver], deaths: list[tuple[int, bool]], slow: bool) -> list[str]:
    """Crash as `deaths` say, start again each time, and say what is wrong with the end."""
    disk = founded()
    for death, after in [*deaths, (-1, False)]:
        if asyncio.run(live(kind, Life(disk, death, after, slow))) or disk.wrong:
            break
    wrong = list(disk.wrong)
    if lost := [effect.kind for effect in disk.ordered if effect not in disk.carried_out]:
        wrong.append(f"never carried out: {lost}")
    if disk.outcome() != quiet(slow)[0].outcome():
        wrong.append("the end is another one")
    return wrong


def everywhere(kind: type[Driver], slow: bool) -> list[str]:
    """Crash once at each place, and say all that went wrong."""
    places = [(n, after) for n in range(1, quiet(slow)[1] + 1) for after in (False, True)]
    return [f"{place}: {wrong}" for place in places for wrong in told(kind, [place], slow)]


@pytest.mark.parametrize("slow", [False, True], ids=["swift", "old to-dos stay open"])
def test_a_quiet_life(slow: bool) -> None:
    disk, touches = quiet(slow)
    run = decode(disk.run)
    assert isinstance(run.stage, Ended)
    assert (run.stage.state, run.round) == ("finished", 2)
    assert (disk.todo, disk.spool) == ({}, set())
    assert touches > 20


@pytest.mark.parametrize("slow", [False, True], ids=["swift", "old to-dos stay open"])
def test_a_crash_anywhere_changes_nothing(slow: bool) -> None:
    assert everywhere(Driver, slow) == []


@pytest.mark.parametrize("every", [4, 5, 7])
@pytest.mark.parametrize("after", [False, True])
def test_crashes_in_every_life_change_nothing(every: int, after: bool) -> None:
    assert told(Driver, [(every, after)] * 60, slow=True) == []


class ActsFirst(Driver):
    """Starts what was ordered, then saves the order."""

    async def _save(self, change: Change) -> Error | None:
        for effect in change.effects:
            self._acting.add(asyncio.ensure_future(self._world.act(self.id, effect)))  # type: ignore[arg-type]
            await asyncio.sleep(0)
        return await super()._save(change)


class ForgetsTheList(Driver):
    """Saves the state without what is to be done."""

    async def _save(self, change: Change) -> Error | None:
        trouble = await super()._save(replace(change, effects=()))
        self._act(enumerate(change.effects, 1000))
        return trouble


class ForgetsTheOldList(Driver):
    """Saves what is to be done now and drops what was to be done before."""

    async def _save(self, change: Change) -> Error | None:
        done = tuple(self._todo) if change.effects else change.done
        return await super()._save(replace(change, done=done))


class AnswersFirst(Driver):
    """Says yes, then saves."""

    async def _turn(self, letters: list[_Letter]) -> None:
        for letter in letters:
            _answer(letter)
        await asyncio.sleep(0)
        await super()._turn(letters)


class StrikesOffFirst(Driver):
    """Notes that it is done, then does it."""

    async def _carry_out(self, number: int, effect: Effect) -> None:
        self._struck.append(number)
        self._wake.set()
        while number in self._struck:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await super()._carry_out(number, effect)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (ActsFirst, "not on the saved list"),
        (ForgetsTheList, "never carried out|stands still|not on the saved list"),
        (AnswersFirst, "answered and not saved"),
        (StrikesOffFirst, "never carried out|stands still|not on the saved list"),
    ],
)
def test_wrong_drivers_are_found_out(kind: type[Driver], found: str) -> None:
    assert any(re.search(found, wrong) for wrong in everywhere(kind, slow=False))


def test_a_driver_that_forgets_old_orders_needs_the_second_story() -> None:
    assert any("never carried out" in wrong for wrong in everywhere(ForgetsTheOldList, slow=True))
