"""A few transfers move at once; the slow hold nobody up; nobody has two turns; nobody waits for long.

Time is virtual: the loop jumps to its next timer, so seconds in line cost nothing and come out exactly.
"""

import asyncio
import selectors
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from unisono.server.runtime import turns
from unisono.server.runtime.turns import CYCLE, ON_ITS_WAY, PATIENCE, SIGN, SLICES, Turn, Turns

STALL = 60.0  # of unisono.client.runtime.link, which the server may not import


class Jumping(selectors.DefaultSelector):
    """Waits for nothing: time jumps to where the loop would have slept to."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds take no time."""

    def __init__(self) -> None:
        self.jumping = Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def play(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(story, 10_000))


def now() -> float:
    return asyncio.get_running_loop().time()


def unheard() -> None:
    """Stand in line without a word."""


async def taken(turn: Turn) -> bool:
    """Tell whether a turn can be had at once."""
    try:
        async with asyncio.timeout(0.001):
            await turn.take()
    except TimeoutError:
        return False
    return True


def test_no_more_than_the_number_move_at_once() -> None:
    async def story() -> None:
        line = Turns(2)
        first, second, third = (line.turn(name, unheard) for name in "abc")
        assert [await taken(t) for t in (first, second, third)] == [True, True, False]
        first.give()
        assert await taken(third)

    play(story())


def test_who_has_nothing_gives_its_turn_up() -> None:
    async def story() -> None:
        line = Turns(1)
        slow, fast = line.turn("slow", unheard), line.turn("fast", unheard)
        await slow.take()
        await fast.take()  # though `slow` never said so
        assert now() == pytest.approx(PATIENCE)

    play(story())


def test_an_upload_that_may_begin_has_a_round_trip_to_come_and_no_more() -> None:
    async def story() -> None:
        line = Turns(1)
        await line.turn("a", unheard).take(ON_ITS_WAY)  # `Begin`
        await asyncio.sleep(ON_ITS_WAY / 2)
        assert not await taken(line.turn("b", unheard))
        assert await taken(line.turn("a", unheard))  # `Upload`, another stream, has its owner's turn
        await line.turn("b", unheard).take()
        await line.turn("a", unheard).take(ON_ITS_WAY)  # and this one never comes
        began = now()
        await line.turn("b", unheard).take()
        assert now() - began == pytest.approx(ON_ITS_WAY)

    play(story())


def test_a_newer_stream_takes_over_the_turn_of_an_older_one() -> None:
    async def story() -> None:
        line = Turns(1)
        older, newer, other = line.turn("a", unheard), line.turn("a", unheard), line.turn("b", unheard)
        await older.take()
        assert await taken(newer)
        older.give()  # has none any more, and gives none of its owner's
        assert not await taken(other)

    play(story())


def test_who_waits_keeps_its_place_however_long() -> None:
    async def story() -> None:
        line, signs, order = Turns(1), list[float](), list[str]()
        first = line.turn("first", unheard)
        await first.take()

        async def wait(name: str) -> None:
            await line.turn(name, lambda: signs.append(now())).take()
            order.append(name)

        early = asyncio.create_task(wait("early"))
        await asyncio.sleep(0)
        while now() < 2.5 * SIGN:
            await first.take()
            await asyncio.sleep(PATIENCE / 2)
        assert signs == [pytest.approx(SIGN), pytest.approx(2 * SIGN)]
        assert order == []  # one in line: a turn of CYCLE * 1 / 1 seconds, but never above the longest slice
        late = asyncio.create_task(wait("late"))
        await asyncio.sleep(0)
        first.give()
        await asyncio.gather(early, late)
        assert order == ["early", "late"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "SLICES", (0.1, 1e6))
        patch.setattr(turns, "CYCLE", 1e6)
        play(story())


@pytest.mark.parametrize(("waiting", "seconds"), [(1, 5.0), (16, 20 / 16), (64, 20 / 64), (400, 0.1)])
def test_a_turn_is_the_shorter_the_more_wait(waiting: int, seconds: float) -> None:
    async def story() -> None:
        line, served = Turns(1), list[float]()
        busy = line.turn("busy", unheard)
        await busy.take()

        async def wait(name: str) -> None:
            await line.turn(name, unheard).take()
            served.append(now())

        others = [asyncio.create_task(wait(f"{k}")) for k in range(waiting)]
        moves = 0
        while not served:
            await asyncio.sleep(PATIENCE / 8)
            await busy.take()
            moves += 1
        assert served[0] == pytest.approx(seconds, abs=PATIENCE / 4)
        assert moves >= 8 * seconds / PATIENCE  # it was its turn until then
        await asyncio.gather(*others)

    play(story())


def test_a_turn_lasts_for_ever_if_nobody_waits() -> None:
    async def story() -> None:
        line = Turns(1)
        busy = line.turn("busy", unheard)
        while now() < 3 * SLICES[1]:
            assert await taken(busy)
            await asyncio.sleep(PATIENCE / 2)

    play(story())


@pytest.mark.parametrize("moment", ["in line", "when it is given", "while it moves"])
def test_a_turn_comes_back_whenever_its_stream_is_cancelled(moment: str) -> None:
    async def story() -> None:
        line = Turns(1)
        holder = line.turn("holder", unheard)
        await holder.take()

        async def stream() -> None:
            async with line.turn("gone", unheard):
                await asyncio.sleep(1000)

        gone = asyncio.create_task(stream())
        await asyncio.sleep(0)
        if moment != "in line":
            holder.give()
        if moment == "while it moves":
            await asyncio.sleep(PATIENCE / 2)
        gone.cancel()
        await asyncio.wait((gone,))
        if moment == "in line":
            assert line.in_line == 0
            holder.give()
        began = now()
        assert await taken(line.turn("next", unheard))
        assert now() == began

    play(story())


def test_others_of_an_owner_keep_waiting_when_one_is_cancelled() -> None:
    async def story() -> None:
        line = Turns(1)
        holder = line.turn("holder", unheard)
        await holder.take()
        one, two = (asyncio.create_task(line.turn("a", unheard).take()) for _ in range(2))
        await asyncio.sleep(0)
        assert line.in_line == 1  # one place for both
        one.cancel()
        await asyncio.wait((one,))
        assert line.in_line == 1
        holder.give()
        await two

    play(story())


def test_every_turn_comes_back_when_a_stream_breaks() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("gone")

    async def stream(line: Turns) -> None:
        async with line.turn("a", unheard) as turn, aclosing(turn.paced(broken())) as items:
            async for _ in items:
                pass

    async def story() -> None:
        line = Turns(1)
        with pytest.raises(RuntimeError, match="gone"):
            await stream(line)
        assert await taken(line.turn("c", unheard))
        assert now() == 0.0

    play(story())


def test_the_end_of_a_stream_needs_no_turn() -> None:
    """Of what was announced all is here: its acknowledgement does not wait until everybody has moved."""

    async def story() -> None:
        line = Turns(1)

        async def slow() -> AsyncIterator[int]:
            yield 1
            yield 2

        async with line.turn("a", unheard) as turn, aclosing(turn.paced(slow())) as items:
            assert await anext(items) == 1
            turn.enough()
            await asyncio.sleep(2 * PATIENCE)
            other = line.turn("b", unheard)
            await other.take(10.0)
            began = now()
            assert [item async for item in items] == [2]
            assert now() == began
            assert not await taken(line.turn("c", unheard))  # what it did not have it does not give up

    play(story())


class Crowd:
    """Clients with links of their own that send chunks through one line of four."""

    def __init__(self) -> None:
        self.line = Turns()
        self.waits: dict[str, float] = {}  # longest, from a chunk's arrival to its turn
        self.done: dict[str, float] = {}
        self.moving = self.most = 0

    async def send(self, name: str, chunks: int, seconds: float, work: float) -> None:
        """Send chunks that arrive every `seconds`, two of them ahead of us; each takes us `work` seconds."""
        window: asyncio.Queue[float] = asyncio.Queue(2)

        async def arrive() -> None:
            for _ in range(chunks):
                await asyncio.sleep(seconds)
                await window.put(now())

        async with asyncio.TaskGroup() as group:
            group.create_task(arrive())
            turn = self.line.turn(name, unheard)
            for _ in range(chunks):
                arrived = await window.get()
                await turn.take()
                self.waits[name] = max(self.waits.get(name, 0.0), now() - arrived)
                self.moving += 1
                self.most = max(self.most, self.moving)
                await asyncio.sleep(work)
                self.moving -= 1
            turn.give()
        self.done[name] = now()

    def play(self, links: Mapping[str, tuple[int, float]], work: float = 0.002) -> None:
        async def story() -> None:
            async with asyncio.TaskGroup() as group:
                for name, (chunks, seconds) in links.items():
                    group.create_task(self.send(name, chunks, seconds, work))

        play(story())


def test_64_slow_clients_move_nearly_as_fast_as_their_links() -> None:
    crowd = Crowd()
    crowd.play({f"{k}": (25, 0.4) for k in range(64)})
    alone = 25 * 0.4
    assert crowd.most <= turns.AT_ONCE
    assert max(crowd.done.values()) < 2.5 * alone  # 160 MB/s asked for; half a second's patience made it 20 x
    assert min(crowd.done.values()) > 0.5 * max(crowd.done.values())  # nobody is served at others' cost
    assert max(crowd.waits.values()) < 5.0


def test_fast_and_slow_clients_keep_their_share() -> None:
    slow = {f"slow-{k}": (25, 0.4) for k in range(56)}
    fast = {f"fast-{k}": (2000, 0.0) for k in range(8)}  # 4 s of our time each
    crowd = Crowd()
    crowd.play(slow | fast)
    assert max(crowd.waits.values()) < CYCLE + SLICES[1] < STALL / 2
    whole = sum(chunks * 0.002 for chunks, _ in fast.values()) / turns.AT_ONCE
    assert max(crowd.done[name] for name in fast) < 8 * whole
    finished = [crowd.done[name] for name in slow]
    assert min(finished) > 0.5 * max(finished)


def test_hundreds_with_much_to_send_are_all_served_before_clients_give_up() -> None:
    crowd = Crowd()
    crowd.play({f"{k}": (40, 0.0) for k in range(300)}, work=0.04)  # 1.6 s each, of which a slice is 0.3
    assert max(crowd.waits.values()) < STALL / 2
    finished = list(crowd.done.values())
    assert min(finished) > 0.5 * max(finished)
