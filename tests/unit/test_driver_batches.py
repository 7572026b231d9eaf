"""What the driver promises to those who hand in events, and what becomes of effects that fail."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import pytest
from federation_world import until
from structlog.testing import capture_logs

from unisono import plan as plans
from unisono.base.clock import ManualClock
from unisono.base.errors import Error, Fault, NotFound, Refused, Unavailable, WrongPhase
from unisono.base.ids import ClientName, RunId
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
    InRound,
    Joined,
    Lost,
    Offered,
    Run,
    StopAsked,
    Tick,
    Uploaded,
    begin,
    step,
)
from unisono.server.runtime import driver as driver_module
from unisono.server.runtime.driver import Driver
from unisono.server.runtime.workers import Workers
from unisono.server.store import Change, Stored

RUN, A, B = RunId("r-0001"), ClientName("a"), ClientName("b")
PLAN = Plan.model_validate(
    {
        "task": "x",
        "protection": {"mode": "sealed"},
        "cohort": {"size": 2},
        "rounds": {"count": 1, "attempts": 1},
    }
)
MODEL, NEXT, MANIFEST = sha256_hex(b"model"), sha256_hex(b"next"), sha256_hex(b"manifest")


def collecting() -> Run:
    run = begin(PLAN, 0.0, (MODEL, 1.0)).run
    for client in (A, B):
        run = step(PLAN, run, Joined(client, MANIFEST), 0.0).run
    return run


def uploaded(client: ClientName, text: str = "") -> Uploaded:
    return Uploaded(client, 1, 1, sha256_hex(f"{client}{text}".encode()), 10)


def aggregating() -> tuple[Run, tuple[tuple[int, Effect], ...]]:
    run = step(PLAN, collecting(), uploaded(A), 0.0).run
    last = step(PLAN, run, uploaded(B), 0.0)
    return last.run, tuple(enumerate(last.effects))


@dataclass
class Store:
    """Keeps what it is given; fails as often as it is told."""

    saved: list[Change] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def save(self, run: RunId, change: Change) -> tuple[int, ...]:
        self.before()
        if self.troubles:
            raise self.troubles.pop(0)
        self.saved.append(change)
        return tuple(range(100 * len(self.saved), 100 * len(self.saved) + len(change.effects)))


@dataclass
class World:
    """Carries out effects as it is told."""

    outcomes: list[Event | Exception | None] = field(default_factory=list)
    asked: list[Effect] = field(default_factory=list)
    heard: list[tuple[Fact, ...]] = field(default_factory=list)

    async def act(self, run: RunId, effect: Effect) -> Event | None:
        self.asked.append(effect)
        found = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(found, Exception):
            raise found
        return found

    def changed(self, run: RunId, before: Run, facts: tuple[Fact, ...]) -> None:
        self.heard.append(facts)


@dataclass
class Stage:
    """A driver that lives for one story."""

    store: Store = field(default_factory=Store)
    world: World = field(default_factory=World)
    clock: ManualClock = field(default_factory=ManualClock)

    def play(
        self,
        story: Callable[[Driver], Coroutine[object, object, None]],
        run: Run | None = None,
        todo: tuple[tuple[int, Effect], ...] = (),
    ) -> Driver:
        async def life() -> Driver:
            workers = Workers(1)
            stored = Stored(plans.canonical(PLAN), run or collecting(), 0.0, todo)
            driver = Driver(RUN, PLAN, stored, self.store, self.world, workers, self.clock)
            task = asyncio.create_task(driver.live())
            try:
                async with asyncio.timeout(5):
                    await story(driver)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                workers.close()
            return driver

        with capture_logs():
            return asyncio.run(life())


async def outcome(driver: Driver, event: Event) -> Exception | None:
    try:
        await driver.handle(event)
    except Error as error:
        return error
    return None


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(driver_module, "AGAIN", 0.001)
    return Stage()


def test_all_who_arrive_together_are_saved_in_one_transaction(stage: Stage) -> None:
    async def story(driver: Driver) -> None:
        late = Offered(ClientName("c"))
        events: list[Event] = [uploaded(A), uploaded(A, "other"), uploaded(A), late, uploaded(B)]
        found = await asyncio.gather(*(outcome(driver, event) for event in events))
        assert [type(error) for error in found] == [type(None), Refused, type(None), type(None), type(None)]
        (change,) = stage.store.saved
        assert [type(event) for event in change.events] == [Uploaded, Uploaded, Offered, Uploaded]
        assert [effect.kind for effect in change.effects] == ["aggregate"]

    stage.play(story)


def test_nobody_is_answered_and_nothing_is_done_before_the_save(stage: Stage) -> None:
    async def story(driver: Driver) -> None:
        tasks = [asyncio.create_task(driver.handle(uploaded(c))) for c in (A, B)]

        def look() -> None:
            assert not any(task.done() for task in tasks)
            assert stage.world.asked == []
            assert stage.world.heard == []

        stage.store.before = look
        await asyncio.gather(*tasks)
        await until(lambda: stage.world.asked)

    stage.play(story)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (Unavailable("disk full", 0.001), Unavailable),
        (Fault("the disk is broken"), Fault),
        (OSError("unexpected"), Fault),
    ],
)
def test_a_failed_save_is_told_to_all_and_changes_nothing(
    stage: Stage, trouble: Exception, told: type[Error]
) -> None:
    async def story(driver: Driver) -> None:
        stage.store.troubles = [trouble]
        driver.count(1, received=7)
        events = [uploaded(A), uploaded(A, "other"), uploaded(B)]  # a refusal rests on what is not saved
        found = await asyncio.gather(*(outcome(driver, event) for event in events))
        assert [type(error) for error in found] == [told, told, told]
        assert driver.run == collecting()
        assert stage.world.asked == []
        assert await outcome(driver, uploaded(A, "other")) is None
        (change,) = stage.store.saved
        assert change.traffic == ((1, 7, 0),)

    stage.play(story)


def test_traffic_counted_during_a_save_is_in_the_next(stage: Stage) -> None:
    async def story(driver: Driver) -> None:
        stage.store.before = lambda: driver.count(1, sent=5)
        driver.count(1, sent=1)
        await driver.handle(uploaded(A))
        await driver.handle(uploaded(B))
        assert [change.traffic for change in stage.store.saved[:2]] == [((1, 0, 1),), ((1, 0, 5),)]

    stage.play(story)


def test_a_full_disk_at_a_deadline_is_not_hammered(stage: Stage) -> None:
    calls = []

    def full() -> None:
        calls.append(1)
        raise Unavailable("disk full", 1000.0)

    waiting = begin(PLAN, 0.0).run

    async def story(driver: Driver) -> None:
        stage.clock.advance(100.0)  # past the deadline of waiting
        await outcome(driver, Tick())
        for _ in range(20):  # as often as it could have tried meanwhile
            await driver._workers.database(time.monotonic)
        assert 1 <= len(calls) <= 2
        stage.store.before = lambda: None
        await driver.handle(Tick())
        assert isinstance(driver.run.stage, Ended)

    stage.store.before = full
    stage.play(story, waiting)


def test_a_full_disk_is_one_line_in_the_log_however_many_ask(stage: Stage) -> None:
    """Each silent client is reported four times a second: a log on the same disk would not help."""

    async def story(driver: Driver) -> None:
        stage.store.troubles = [Unavailable("disk full", 10.0) for _ in range(20)]
        with capture_logs() as logs:
            for _ in range(20):
                assert isinstance(await outcome(driver, uploaded(A)), Unavailable)
                stage.clock.advance(0.25)
        told = [line for line in logs if line["event"] == "not_saved"]
        assert [(line["log_level"], line["reason"]) for line in told] == [("warning", "disk full")]
        await driver.handle(uploaded(A))

    stage.play(story)


def test_unavailable_effects_are_asked_again(stage: Stage) -> None:
    run, todo = aggregating()
    stage.world.outcomes = [Unavailable("disk full", 0.0)] * 3 + [Aggregated(1, 1, NEXT, bounds=(1.0,))]

    async def story(driver: Driver) -> None:
        await until(lambda: driver.run.round == 1)
        assert [effect.kind for effect in stage.world.asked[:4]] == ["aggregate"] * 4
        assert stage.store.saved[0].done == (0,)

    stage.play(story, run, todo)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("w"), "internal error; the coordinator's log has it"),
        (NotFound("there is no file with digest 00"), "there is no file with digest 00"),
        (Fault("the disk is broken"), "the disk is broken"),
    ],
)
def test_an_aggregation_that_breaks_fails_its_attempt(stage: Stage, error: Exception, reason: str) -> None:
    run, todo = aggregating()
    stage.world.outcomes = [error]

    async def story(driver: Driver) -> None:
        await until(lambda: isinstance(driver.run.stage, Ended))
        assert isinstance(driver.run.stage, Ended)
        assert driver.run.stage.state == "failed"
        assert reason in driver.run.stage.reason

    stage.play(story, run, todo)


def test_an_outcome_that_the_machine_cannot_digest_fails_its_attempt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: Plan, run: Run, event: Event, now: float) -> object:
        if isinstance(event, Aggregated | Lost):
            raise ZeroDivisionError
        return step(plan, run, event, now)

    monkeypatch.setattr(driver_module, "step", broken)
    run, todo = aggregating()
    stage.world.outcomes = [Aggregated(1, 1, NEXT)]

    async def story(driver: Driver) -> None:
        assert isinstance(await outcome(driver, Lost(A, "x")), Fault)  # and the driver lives on
        await until(lambda: isinstance(driver.run.stage, Ended))

    stage.play(story, run, todo)


def test_an_outcome_is_handed_in_until_it_is_saved(stage: Stage) -> None:
    run, todo = aggregating()
    stage.world.outcomes = [Aggregated(1, 1, NEXT, bounds=(1.0,))]
    stage.store.troubles = [Unavailable("disk full", 0.0), Fault("broken"), OSError("?")]

    async def story(driver: Driver) -> None:
        await until(lambda: driver.run.round == 1)
        assert sum(isinstance(effect, Aggregate) for effect in stage.world.asked) == 1  # not summed again

    stage.play(story, run, todo)


def test_clearing_away_is_tried_again_and_then_left_for_the_next_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "TRIES", 3)
    stage.world.outcomes = [OSError("?")] * 3

    async def story(driver: Driver) -> None:
        await until(lambda: len(stage.world.asked) == 3)
        await until(lambda: not driver._acting)
        assert len(stage.world.asked) == 3
        assert stage.store.saved == []  # still on the list

    stage.play(story, todo=((7, Forget(1, 1)),))


def test_what_was_done_during_a_save_is_struck_off_by_the_next(stage: Stage) -> None:
    async def story(driver: Driver) -> None:
        await driver.handle(uploaded(A))
        await until(lambda: {n for c in stage.store.saved for n in c.done} == set(range(5)))

    stage.play(story, todo=tuple((number, Forget(number, 1)) for number in range(5)))


def test_the_end_waits_for_what_is_struck_off(stage: Stage) -> None:
    ended = step(PLAN, collecting(), StopAsked(), 0.0)
    stage.store.troubles = [Unavailable("disk full", 0.001)] * 2

    async def story(driver: Driver) -> None:
        await until(lambda: stage.store.saved)
        assert sorted(n for change in stage.store.saved for n in change.done) == [0, 1]
        await until(lambda: driver._over)
        with pytest.raises(WrongPhase, match="over"):  # not silence
            await driver.handle(StopAsked())
        await driver.handle(Tick())

    stage.play(story, ended.run, tuple(enumerate(ended.effects)))


def test_a_driver_that_stops_answers_everybody(stage: Stage) -> None:
    answers: list[asyncio.Task[Exception | None]] = []

    async def story(driver: Driver) -> None:
        stage.store.before = driver._wake.set
        answers.append(asyncio.create_task(outcome(driver, uploaded(A))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # on its way to the disk

    driver = stage.play(story)
    (answer,) = answers
    assert answer.cancelled() or answer.result() is None or isinstance(answer.result(), Unavailable)
    assert isinstance(driver.run.stage, InRound)
    with pytest.raises(Unavailable, match="stopping"):
        asyncio.run(driver.handle(uploaded(B)))


def test_a_caller_that_goes_away_takes_nothing_back(stage: Stage) -> None:
    async def story(driver: Driver) -> None:
        task = asyncio.create_task(driver.handle(uploaded(A)))
        await asyncio.sleep(0)
        task.cancel()
        await driver.handle(uploaded(B))
        assert isinstance(driver.run.stage, InRound)
        assert driver.run.stage.phase.kind == "aggregating"

    stage.play(story)


def test_a_plan_with_time_ticks_by_itself(stage: Stage) -> None:
    plan = PLAN.model_copy(update={"cohort": PLAN.cohort.model_copy(update={"wait_seconds": 0.01})})

    async def life() -> None:
        workers = Workers(1)
        stored = Stored(plans.canonical(plan), begin(plan, 0.0).run, 0.0, ())
        clock = ManualClock()
        driver = Driver(RUN, plan, stored, stage.store, stage.world, workers, clock)
        clock.advance(1.0)
        async with asyncio.timeout(5):
            await driver.live()
        workers.close()
        assert isinstance(driver.run.stage, Ended)

    with capture_logs():
        asyncio.run(life())
