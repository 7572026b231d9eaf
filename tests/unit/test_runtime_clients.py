"""What clients are told and what becomes of what they say, with the real store and no network."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from unisono import plan as plans
from unisono.base.clock import ManualClock
from unisono.base.errors import Fault, NotFound, Refused, Unavailable, WrongPhase
from unisono.base.ids import ClientName, RunId
from unisono.crypto import AtRest, SealingKey, SigningKey, sha256_hex, system_entropy
from unisono.identity import Authority
from unisono.plan import Plan
from unisono.server.blobs import LocalDir, Spool
from unisono.server.config import Config
from unisono.server.enrolment import Ledger
from unisono.server.rounds import InRound, ModelReceived, Run, Waiting, begin
from unisono.server.runtime import coordinator as coordinator_module
from unisono.server.runtime.acceptance import Acceptance
from unisono.server.runtime.clients import Clients
from unisono.server.runtime.coordinator import Coordinator
from unisono.server.runtime.hall import Hall
from unisono.server.runtime.instructions import Consider, SendModel, Work
from unisono.server.runtime.operators import Operators
from unisono.server.runtime.presence import Greeting, Presence
from unisono.server.runtime.receipts import MOST, Receipts
from unisono.server.runtime.sums import Sums
from unisono.server.runtime.workers import Workers
from unisono.server.store import Store, open_store
from unisono.tensors import Entry, Manifest

A, B = ClientName("a"), ClientName("b")
GREETING = Greeting("test", 1, frozenset({"x"}), frozenset({"sealed"}), frozenset({"fedavg"}))
MANIFEST = Manifest((Entry("w", (2,), "F32", travels=True),), ("loss",))
OTHER = Manifest((Entry("w", (3,), "F32", travels=True),), ("loss",))
MODEL = sha256_hex(b"model")
PLAN = Plan.model_validate(
    {"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 2, "min_survivors": 1}}
)
AUTHORITY, SEALING = Authority.create("cardio", 1_700_000_000.0), SealingKey.generate(system_entropy)


class Scene:
    """A coordinator without a network, whose clock stands still."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        store = open_store(folder)
        self.hall = Hall(
            config=Config(),
            clock=self.clock,
            entropy=system_entropy,
            authority=AUTHORITY,
            sealing_key=SEALING,
            sealing_certificate=b"",
            store=store,
            ledger=Ledger(store),
            blobs=LocalDir(folder / "blobs", AtRest(bytes(32)), system_entropy),
            spool=Spool(folder / "spool", 1 << 20),
            presence=Presence(self.clock, 60.0),
            workers=Workers(1),
            sums=Sums(SEALING),
            receipts=Receipts(MODEL, SigningKey.generate(system_entropy), b"", store),
        )
        self.coordinator, self.clients = Coordinator(self.hall), Clients(self.hall)
        self.id = RunId("r-0001")

    @property
    def run(self) -> Run:
        return self.hall.runs[self.id].run

    async def start(self) -> None:
        plan = plans.canonical(PLAN)
        self.hall.store.create(plan, plans.digest(PLAN), begin(PLAN, 0.0), 0.0, 0.0, "operator")
        await self.coordinator.start(self.id)

    async def collecting(self) -> None:
        await self.start()
        for client in (A, B):
            await self.clients.hello(client, GREETING)
            await self.clients.joined(client, self.id, MANIFEST.encode(), MODEL)
        await self.hall.runs[self.id].driver.handle(ModelReceived(A, MODEL, 1.0))

    def progress(self, client: ClientName, done: int, at: tuple[int, int] = (1, 1)) -> None:
        self.clients.progress(client, (self.id, *at), ("training", done, 9))


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    made = Scene(folder)
    try:
        async with asyncio.timeout(10):
            yield made
    finally:
        await made.coordinator.close()
        made.hall.workers.close()
        made.hall.store.close()


Story = Callable[[Scene], Coroutine[object, object, None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Story], None]:
    async def told(story: Story) -> None:
        async with scene(tmp_path) as made:
            await story(made)

    def run(story: Story) -> None:
        with capture_logs():
            asyncio.run(told(story))

    return run


Play = Callable[[Story], None]


def test_a_long_poll_wakes_when_there_is_something_new_and_only_then(play: Play) -> None:
    async def story(scene: Scene) -> None:
        ask = scene.clients.next_instruction
        for client in (A, B):
            await scene.clients.hello(client, GREETING)
        idle = await ask(A, 0, 0.0, False)
        assert idle.what is None
        assert await ask(A, idle.cursor, 0.0, False) == idle  # nothing new
        waiting = [asyncio.create_task(ask(client, idle.cursor, 25.0, False)) for client in (A, B)]
        await asyncio.sleep(0)
        await scene.start()
        assert {type((await task).what) for task in waiting} == {Consider}
        seen = await ask(A, 0, 0.0, False)
        waiting = [asyncio.create_task(ask(client, seen.cursor, 25.0, False)) for client in (A, B)]
        await scene.clients.joined(A, scene.id, MANIFEST.encode(), MODEL)
        assert (await waiting[0]).what is None
        assert not waiting[1].done()  # nothing changed for b
        await scene.clients.joined(B, scene.id, MANIFEST.encode(), MODEL)
        await waiting[1]
        assert (await ask(A, 0, 25.0, False)).what == SendModel(scene.id, MODEL)
        asked = asyncio.create_task(ask(B, idle.cursor, 25.0, False))
        await asyncio.sleep(0)
        await scene.hall.runs[scene.id].driver.handle(ModelReceived(A, MODEL, 1.0))
        assert isinstance((await asked).what, Work)

    play(story)


def test_a_plan_that_somebody_looks_at_stops_no_other_run(play: Play) -> None:
    async def story(scene: Scene) -> None:
        await scene.start()
        await scene.clients.hello(A, GREETING)
        first = await scene.clients.next_instruction(A, 0, 0.0, False)
        assert isinstance(first.what, Consider)
        lines = len(scene.hall.store.audit())
        for _ in range(3):  # it says so with every poll
            await scene.clients.looking(A, scene.id)
        assert len(scene.hall.store.audit()) == lines + 1
        assert isinstance(scene.run.stage, Waiting)
        assert scene.run.stage.looking == {A}
        assert await scene.clients.next_instruction(A, first.cursor, 0.0, False) == first
        second = RunId("r-0002")
        plan = plans.canonical(PLAN)
        scene.hall.store.create(plan, plans.digest(PLAN), begin(PLAN, 0.0), 0.0, 0.0, "operator")
        await scene.coordinator.start(second)
        other = (await scene.clients.next_instruction(A, first.cursor, 0.0, False)).what
        assert isinstance(other, Consider)
        assert other.run == second
        await scene.clients.joined(A, second, MANIFEST.encode(), MODEL)
        back = (await scene.clients.next_instruction(A, 0, 0.0, False)).what
        assert isinstance(back, Consider)
        assert back.run == scene.id
        with pytest.raises(NotFound):
            await scene.clients.looking(A, RunId("r-0009"))

    play(story)


def test_a_silent_client_is_given_up_and_told_when_it_comes_back(play: Play) -> None:
    async def story(scene: Scene) -> None:
        await scene.collecting()
        await scene.coordinator.look()
        scene.clock.advance(59)
        scene.progress(A, 1)
        await scene.coordinator.look()
        assert scene.run.away == frozenset()
        scene.clock.advance(1)
        await scene.coordinator.look()
        assert scene.run.away == {B}
        scene.progress(A, 2)
        with pytest.raises(WrongPhase, match="attempt 1 of round 1"):
            scene.progress(B, 5)  # its work is in vain
        with pytest.raises(WrongPhase):
            scene.progress(A, 3, at=(1, 2))
        await scene.clients.next_instruction(B, 0, 0.0, False)
        assert scene.run.away == frozenset()

    play(story)


def test_leaving_is_not_waited_for(play: Play) -> None:
    async def story(scene: Scene) -> None:
        await scene.collecting()
        await scene.clients.leaving(B)
        assert scene.run.away == {B}
        assert set(scene.hall.presence.online()) == {A}

    play(story)


def test_models_must_agree_with_those_who_are_still_here(play: Play) -> None:
    async def story(scene: Scene) -> None:
        await scene.start()
        for client in (A, B):
            await scene.clients.hello(client, GREETING)
        await scene.clients.joined(A, scene.id, MANIFEST.encode(), MODEL)
        with pytest.raises(Refused, match=r'tensor "w" has shape'):
            await scene.clients.joined(B, scene.id, OTHER.encode(), MODEL)
        assert [client for client, _ in scene.run.declined] == [B]
        await scene.clients.leaving(A)
        await scene.clients.joined(B, scene.id, OTHER.encode(), MODEL)  # nobody is left to differ from
        stage = scene.run.stage
        assert isinstance(stage, Waiting)
        assert stage.joined == ((B, MODEL),)

    play(story)


def test_who_hangs_up_while_its_word_is_saved_has_said_it(play: Play) -> None:
    """A broken connection, or a deadline, cancels the call; the event it handed in is saved all the same."""

    async def story(scene: Scene) -> None:
        await scene.start()
        await scene.clients.hello(A, GREETING)
        driver, free = scene.hall.runs[scene.id].driver, threading.Event()
        await scene.hall.workers.database(scene.hall.store.put_manifest, MANIFEST.digest, MANIFEST.encode())
        joining = asyncio.ensure_future(scene.clients.joined(A, scene.id, MANIFEST.encode(), MODEL))
        while not driver._inbox:  # noqa: ASYNC110
            await asyncio.sleep(0)
        disk = asyncio.ensure_future(scene.hall.workers.database(free.wait, 10.0))
        await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        free.set()
        await disk
        await scene.clients.hello(B, GREETING)
        with pytest.raises(Refused, match=r'tensor "w" has shape'):
            await scene.clients.joined(B, scene.id, OTHER.encode(), MODEL)
        assert scene.hall.runs[scene.id].manifest == MANIFEST
        assert scene.run.manifest == MANIFEST.digest

    play(story)


def test_who_hangs_up_while_a_run_is_written_down_has_started_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait without a driver until the coordinator is started again."""

    async def story(scene: Scene) -> None:
        operators = Operators(scene.hall, scene.coordinator, Acceptance(scene.hall))
        create, written, free = Store.create, threading.Event(), threading.Event()

        def slow(*args: Any) -> RunId:
            run = create(*args)
            written.set()
            free.wait(10.0)
            return run

        monkeypatch.setattr(Store, "create", slow)
        asking = asyncio.ensure_future(operators.start_run(plans.canonical(PLAN), None, None, "operator"))
        await asyncio.to_thread(written.wait, 10.0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        free.set()
        while scene.id not in scene.hall.runs:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert isinstance(scene.run.stage, Waiting)

    play(story)


def test_a_revoked_client_is_out_at_once(play: Play) -> None:
    async def story(scene: Scene) -> None:
        await scene.collecting()
        seen = await scene.clients.next_instruction(B, 0, 0.0, False)
        waiting = asyncio.create_task(scene.clients.next_instruction(B, seen.cursor, 25.0, False))
        await asyncio.sleep(0)
        await scene.coordinator.expel(B, "laptop lost")
        with pytest.raises(Refused, match="hello"):
            await waiting
        stage = scene.run.stage
        assert isinstance(stage, InRound)
        assert "revoked (laptop lost)" in repr(stage.phase)

    play(story)


def test_a_driver_that_dies_is_started_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_module, "AGAIN", 0.001)

    async def story(scene: Scene) -> None:
        await scene.collecting()
        before = scene.run
        first = scene.hall.runs[scene.id].driver
        monkeypatch.setattr(first, "_rest", None)  # not callable: the worst kind of bug
        await first.handle(ModelReceived(A, MODEL, 1.0))
        while scene.hall.runs[scene.id].driver is first:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert scene.run == before
        await scene.clients.leaving(B)
        assert scene.run.away == {B}

    play(story)


def test_receipts_of_the_past_are_not_asked_for_without_end(tmp_path: Path) -> None:
    """The round just published costs nothing to ask about; old and unknown ones do, so the disk has rest."""

    async def story() -> None:
        async with scene(tmp_path) as world:
            await world.start()
            await world.clients.hello(A, GREETING)
            unknown = [(RunId(f"r-{number:04d}"), 1) for number in range(100, 900)]
            found = await world.clients.next_instruction(A, 0, 0.0, False, unknown)
            assert len(found.receipts) == MOST

            async def again_and_again() -> None:
                for _ in range(150):
                    await world.clients.next_instruction(A, 0, 0.0, False, unknown[:2])

            with pytest.raises(Unavailable, match="says more than"):
                await again_and_again()
            for _ in range(150):  # of a round that goes on nothing is said, and nothing read
                assert not (await world.clients.next_instruction(A, 0, 0.0, False, [(world.id, 1)])).receipts

    asyncio.run(story())


def test_receipts_that_cannot_be_read_stop_no_work(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(scene: Scene) -> None:
        await scene.collecting()

        def damaged(rounds: object) -> None:
            raise Fault("the updates of round 1 of r-0009 are not those that were signed for")

        monkeypatch.setattr(type(scene.hall.store), "published", lambda store, rounds: damaged(rounds))
        found = await scene.clients.next_instruction(A, 0, 0.0, False, [(RunId("r-0009"), 1)])
        assert isinstance(found.what, Work)
        assert not found.receipts

    play(story)
