"""Who is here, since when nothing moved, and long polls that wake when something changed."""

import asyncio

import pytest

from unisono.base.clock import ManualClock
from unisono.base.ids import ClientName, RunId
from unisono.server.runtime.bell import Bells
from unisono.server.runtime.instructions import Consider, Instruction
from unisono.server.runtime.presence import Greeting, HelloFirst, Presence

A, B = ClientName("a"), ClientName("b")
GREETING = Greeting("test", 1, frozenset({"x"}), frozenset({"sealed"}), frozenset({"fedavg"}))
RUN = "r-0001"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def presence(clock: ManualClock) -> Presence:
    found = Presence(clock, 60.0)
    for client in (A, B):
        found.hello(client, GREETING)
    return found


def test_only_movement_is_progress(presence: Presence, clock: ManualClock) -> None:
    assert presence.silence(RUN, (A,)) == {A: 0.0}
    clock.advance(10)
    presence.moved(A, "training", 1, 100)
    clock.advance(5)
    presence.seen(A)  # a poll
    assert presence.silence(RUN, (A,)) == {A: 5.0}
    presence.moved(A, "training", 1, 100)  # a percent of a long training: clients report only what moved
    assert presence.silence(RUN, (A,)) == {A: 0.0}
    clock.advance(1)
    presence.moved(A, "training", 2, 100)
    assert presence.silence(RUN, (A,)) == {A: 0.0}
    clock.advance(1)
    presence.moved(A, "uploading", 2, 9)  # another stage is
    assert presence.silence(RUN, (A,)) == {A: 0.0}


def test_the_idle_clock_begins_when_somebody_is_waited_for(presence: Presence, clock: ManualClock) -> None:
    clock.advance(100)
    assert presence.silence(RUN, (A, B)) == {A: 0.0, B: 0.0}
    clock.advance(7)
    assert presence.silence(RUN, (A,)) == {A: 7.0}
    clock.advance(7)
    assert presence.silence(RUN, (A, B)) == {A: 14.0, B: 0.0}  # b was not waited for in between
    assert presence.silence("r-0002", (A,)) == {A: 0.0}  # another run has another clock
    presence.silence(RUN, ())
    presence.silence("r-0002", ())
    assert presence._expected == {}  # a run that is over leaves nothing


def test_who_never_said_hello_is_waited_for_too(presence: Presence, clock: ManualClock) -> None:
    stranger = ClientName("c")
    presence.silence(RUN, (stranger,))
    clock.advance(3)
    assert presence.silence(RUN, (stranger,)) == {stranger: 3.0}
    with pytest.raises(HelloFirst):
        presence.seen(stranger)


def test_the_wall_clock_does_not_matter(presence: Presence, clock: ManualClock) -> None:
    presence.silence(RUN, (A,))
    clock.set_wall(0.0)
    clock.advance(2)
    assert presence.silence(RUN, (A,)) == {A: 2.0}
    assert set(presence.online()) == {A, B}


def test_online_is_who_called_lately_and_did_not_leave(presence: Presence, clock: ManualClock) -> None:
    clock.advance(60)
    presence.seen(A)
    assert set(presence.online()) == {A, B}
    clock.advance(1)
    assert set(presence.online()) == {A}
    presence.left(A)
    assert presence.online() == {}
    presence.seen(A)  # it is back
    assert set(presence.online()) == {A}
    presence.forget(A)
    presence.left(A)
    presence.settled(A)
    with pytest.raises(HelloFirst):
        presence.moved(A, "training", 1, 2)


def test_a_ring_between_looking_and_waiting_is_not_lost() -> None:
    async def story() -> None:
        bells = Bells()
        ticket = bells.ticket("a")
        bells.ring(["a", "nobody"])
        async with asyncio.timeout(5):
            await bells.wait(ticket, 1000)  # rung already
        fresh = bells.ticket("a")
        await bells.wait(fresh, 0.001)  # an old ring wakes nobody
        assert not fresh.is_set()
        waiting = [asyncio.create_task(bells.wait(bells.ticket(key), 1000)) for key in ("a", "a", "b")]
        await asyncio.sleep(0)
        bells.ring("a")
        await asyncio.wait(waiting[:2], timeout=5)
        assert [task.done() for task in waiting] == [True, True, False]
        waiting[2].cancel()

    asyncio.run(story())


def test_a_cursor_names_what_was_said() -> None:
    one, two = (Instruction(Consider(RunId(run), b"plan", 2), None, False) for run in ("r-0001", "r-0002"))
    again = Instruction(Consider(RunId("r-0001"), b"plan", 2), None, False)
    assert one.cursor == again.cursor
    assert len({one.cursor, two.cursor, Instruction(one.what, None, True).cursor}) == 3
    assert 0 < Instruction(None, None, False).cursor < 1 << 64  # 0 is "nothing seen yet"
