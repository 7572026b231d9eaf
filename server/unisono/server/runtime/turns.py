"""Turns: how many transfers move at the same time, so that memory does not grow with the number of clients.

A stream that moves as fast as it can holds some 8 MB here (gRPC's window, whole messages, segments), and the
one thread that moves them all is busy with a few.  So a stream lines up before it reads or sends, with empty
hands, and keeps its turn while it has something to move.  The rules, each against one way of being held up by
others:

* A turn ends when its stream has had nothing to move for `PATIENCE`: a slow link gives its turn up between
  two chunks.  This bounds what idle turns can cost: even if every link is slow, `AT_ONCE` chunks of 1 MiB
  move every `PATIENCE`, 40 MB/s.  (With half a second, four links of 1 MiB each 0.4 s would hold
  all turns and the coordinator at 10 MB/s.)
* A turn ends after a slice of time if others wait.  The slice shrinks with the line, so that everybody is
  next within about `CYCLE` seconds: a client gives a transfer up that stands still for 60.
* Turns belong to owners, and nobody has two, nor two places in the line: what one client opens beyond its
  first stream shares its turn, so many streams bring nothing, and a new one needs not wait for an old one
  whose connection is dead.
* The line is first come, first served, and whoever waits keeps its place, however long.
* A turn that nobody uses (its stream was cancelled in the moment it was given, or the client asked for it
  with `Begin` and did not come) ends by itself.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

AT_ONCE = 4
PATIENCE = 0.1  # seconds that a turn is kept for a stream that has nothing
ON_ITS_WAY = 0.5  # the same for an upload that was just allowed to begin: a round trip, and opening a file
CYCLE = 20.0  # seconds in which everybody in line has had a turn
SLICES = (0.1, 5.0)  # shortest and longest: up to 800 in line CYCLE holds, 1600 still wait 40 s only
SIGN = 5.0  # seconds between two signs that somebody waits in line


@dataclass(slots=True)
class _Held:
    """A turn that was given: to whom in particular, since when, and what ends it."""

    since: float
    timer: asyncio.TimerHandle | None = None  # none until the first stream has heard of it
    user: "Turn | None" = None  # the stream that took it last


@dataclass(slots=True)
class _Place:
    """A place in the line, shared by all streams of its owner."""

    granted: asyncio.Future[None]
    waiting: int = 0


class Turns:
    """One line for all transfers."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._held: dict[str, _Held] = {}  # by owner
        self._line: dict[str, _Place] = {}  # by owner, the first one first

    def turn(self, owner: str, waits: Callable[[], None]) -> "Turn":
        """Return a stream's place; `waits` is called now and then while it stands in line."""
        return Turn(self, owner, waits)

    @property
    def in_line(self) -> int:
        """How many wait."""
        return len(self._line)

    def _slice(self) -> float:
        """Return how long a turn lasts: for ever if nobody waits."""
        if not self._line:
            return float("inf")
        shortest, longest = SLICES
        return min(max(CYCLE * self._at_once / len(self._line), shortest), longest)

    async def _take(self, turn: "Turn", patience: float) -> None:
        """Return when the owner has a turn, which this stream then keeps for `patience` seconds."""
        loop, owner = asyncio.get_running_loop(), turn.owner
        held = self._held.get(owner)
        if held is not None and loop.time() - held.since > self._slice():
            self._end(owner)
        if owner not in self._held:
            await self._line_up(turn)
        held = self._held[owner]
        if held.timer is not None:
            held.timer.cancel()
        held.user, held.timer = turn, loop.call_later(patience, self._end, owner)

    async def _line_up(self, turn: "Turn") -> None:
        owner = turn.owner
        while owner not in self._held:
            place = self._line.get(owner)
            if place is None:
                place = self._line[owner] = _Place(asyncio.get_running_loop().create_future())
                self._next()
            place.waiting += 1
            try:
                while not place.granted.done():
                    done, _ = await asyncio.wait((place.granted,), timeout=SIGN)
                    if not done:
                        turn.waits()
                if (held := self._held.get(owner)) is not None:
                    held.user = turn
            finally:
                place.waiting -= 1
                if not place.waiting:
                    self._left(owner, place)

    def _left(self, owner: str, place: _Place) -> None:
        """Nobody stands at a place any more: strike it off, or give back what it got and nobody took."""
        if not place.granted.done():
            del self._line[owner]
        elif (held := self._held.get(owner)) is not None and held.user is None:
            self._end(owner)

    def _next(self) -> None:
        """Give the free turns to the first in line."""
        now = asyncio.get_running_loop().time()
        while self._line and len(self._held) < self._at_once:
            owner = next(iter(self._line))
            place = self._line.pop(owner)
            self._held[owner] = _Held(now)
            place.granted.set_result(None)

    def _end(self, owner: str) -> None:
        held = self._held.pop(owner, None)
        if held is not None:
            if held.timer is not None:
                held.timer.cancel()
            self._next()

    def _give(self, turn: "Turn") -> None:
        held = self._held.get(turn.owner)
        if held is not None and held.user is turn:
            self._end(turn.owner)


class Turn:
    """One stream's use of its owner's turn.  Leaving the context gives it up."""

    def __init__(self, turns: Turns, owner: str, waits: Callable[[], None]) -> None:
        self._turns, self.owner, self.waits = turns, owner, waits
        self._enough = False

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give()

    async def take(self, patience: float | None = None) -> None:
        """Return when it is this stream's turn; it then has some time to come back for more."""
        await self._turns._take(self, PATIENCE if patience is None else patience)

    def give(self) -> None:
        """Let the next one move, if this stream was the last to use its owner's turn."""
        self._turns._give(self)

    def enough(self) -> None:
        """All that was announced is here: what is left is the stream's end, and nobody lines up for that."""
        self._enough = True

    async def paced(self, source: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """Yield what comes; each is asked for when it is this stream's turn, until it is `enough`."""
        while True:
            if not self._enough:
                await self.take()
            try:
                item = await anext(source)
            except StopAsyncIteration:
                break
            yield item
            del item
        self.give()
