"""A few transfers move at once; the slow hold nobody up; nobody has two turns."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from unisono.server.runtime import turns
from unisono.server.runtime.turns import Turn, Turns


def unheard() -> None:
    """Stand in line without a word."""


async def taken(turn: Turn) -> bool:
    """Tell whether a turn can be had at once."""
    try:
        async with asyncio.timeout(0.02):
            await turn.take()
    except TimeoutError:
        return False
    return True


def test_no_more_than_the_number_move_at_once() -> None:
    async def play() -> None:
        line = Turns(2)
        first, second, third = (line.turn(name, unheard) for name in "abc")
        assert [await taken(t) for t in (first, second, third)] == [True, True, False]
        first.give()
        assert await taken(third)

    asyncio.run(play())


def test_who_has_nothing_gives_its_turn_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.001)

    async def play() -> None:
        line = Turns(1)
        slow, fast = line.turn("slow", unheard), line.turn("fast", unheard)
        await slow.take()
        await asyncio.wait_for(fast.take(), 1)  # after PATIENCE, though `slow` never said so

    asyncio.run(play())


def test_a_turn_ends_for_those_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE", 0.0)

    async def play() -> None:
        line, moved = Turns(1), list[str]()

        async def move(name: str) -> None:
            async with line.turn(name, unheard) as turn:
                for _ in range(3):
                    await turn.take()
                    moved.append(name)
                    await asyncio.sleep(0)

        await asyncio.gather(move("a"), move("b"))
        assert sorted(moved) == ["a"] * 3 + ["b"] * 3
        assert moved != ["a"] * 3 + ["b"] * 3

    asyncio.run(play())


def test_a_newer_stream_takes_over_the_turn_of_an_older_one() -> None:
    async def play() -> None:
        line = Turns(1)
        older, newer, other = line.turn("a", unheard), line.turn("a", unheard), line.turn("b", unheard)
        await older.take()
        assert await taken(newer)
        older.give()  # has none any more, and gives none of its owner's
        assert not await taken(other)

    asyncio.run(play())


def test_every_turn_comes_back_however_a_stream_ends() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("gone")

    async def play() -> None:
        line = Turns(1)

        async def stream() -> None:
            async with line.turn("a", unheard) as turn:
                waiting = asyncio.create_task(line.turn("b", unheard).take())
                await asyncio.sleep(0)
                waiting.cancel()
                async for _ in turn.paced(broken()):
                    pass

        with pytest.raises(RuntimeError, match="gone"):
            await stream()
        assert await taken(line.turn("c", unheard))

    asyncio.run(play())


def test_who_stands_in_line_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SIGN", 0.001)

    async def play() -> None:
        line, signs = Turns(1), asyncio.Event()
        await line.turn("a", unheard).take()
        sign: Callable[[], None] = signs.set
        waiting = asyncio.create_task(line.turn("b", sign).take())
        await asyncio.wait_for(signs.wait(), 1)
        waiting.cancel()

    asyncio.run(play())
