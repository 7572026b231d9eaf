"""Worlds by the batch: Hypothesis draws them under a seed, and shrinks what fails.

Nothing here can go on for ever: a world has so many messages (`sim_plan.MOST`) and so many seconds of this
machine's time, and shrinking has an end too, after which the smallest world that failed so far is told.
"""

import gc
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import sim_lists
import sim_ops as op
from hypothesis import HealthCheck, given, seed, settings
from sim_core_play import play_core
from sim_play import play
from sim_story import Story

World = tuple[op.Setting, list[op.Op]]
WORLDS = {"whole": sim_lists.worlds, "core": sim_lists.core_worlds}
TIERS: dict[str, Callable[[op.Setting, Sequence[op.Op]], Story]] = {"whole": play, "core": play_core}
BATCH = 200  # worlds under one seed
LONGEST = 40.0  # seconds of computing that a world may take; it takes tenths of one
SHRINKING = 15.0  # seconds


class Stuck(BaseException):
    """A world takes for ever, and makes no step that could be counted."""


class Enough(BaseException):
    """There is no time left to shrink what failed."""


@dataclass
class Tally:
    """What one process has seen of one tier."""

    worlds: Counter[str] = field(default_factory=Counter)  # by protection
    ends: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    messages: int = 0
    failures: list[str] = field(default_factory=list)
    stuck: bool = False  # a process never said what it saw

    def add(self, other: "Tally") -> None:
        self.worlds += other.worlds
        self.ends += other.ends
        self.rounds += other.rounds
        self.messages += other.messages
        self.failures += other.failures


@dataclass
class Hunt:
    """The worlds of one seed, and the smallest of them that failed."""

    tier: str
    until: float
    tally: Tally = field(default_factory=Tally)
    worst: World | None = None
    why: str = ""
    end: float = 0.0  # of shrinking

    def live(self, world: World) -> None:
        """Play one; after `until` those left are passed over."""
        now = time.monotonic()
        if self.worst is None and now >= self.until:
            return
        if self.worst is not None and now >= self.end:
            raise Enough
        try:
            with computing(LONGEST):
                story = TIERS[self.tier](*world)
        except BaseException as failure:
            if self.worst is None:
                self.end = time.monotonic() + SHRINKING
            if self.worst is None or len(world[1]) <= len(self.worst[1]):
                self.worst, self.why = world, f"{type(failure).__name__}: {failure}"
            raise
        self.tally.worlds[world[0].mode] += 1
        self.tally.ends[story.state] += 1
        self.tally.rounds += len(story.rounds)
        self.tally.messages += story.messages


@contextmanager
def computing(seconds: float) -> Iterator[None]:
    """Raise Stuck in whoever computes for longer than that; time in which others compute does not count."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise Stuck(f"{seconds:g} s of computing, and the world has not ended")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def batch(tier: str, number: int, worlds: int, until: float) -> Tally:
    """Play worlds under one seed."""
    hunt = Hunt(tier, until)

    @seed(number)
    @settings(max_examples=worlds, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(WORLDS[tier]())
    def any_world(world: World) -> None:
        hunt.live(world)

    try:
        any_world()
    except (Exception, Enough, Stuck) as failure:
        notes = "\n".join(getattr(failure, "__notes__", ()))
        hunt.tally.failures = [f"{tier}, seed {number}: {hunt.why or failure}\n{hunt.worst}\n{notes}"]
    return hunt.tally


def worker(tier: str, first: int, step: int, limits: tuple[int, float]) -> Tally:
    """Play batch after batch: with seeds first, first + step ..."""
    warnings.simplefilter("ignore")  # Hypothesis, of databases and slow data
    worlds, until = limits
    tally, number = Tally(), first
    while worlds > 0 and time.monotonic() < until:
        found = batch(tier, number, min(BATCH, worlds), until)
        tally.add(found)
        worlds -= max(BATCH, sum(found.worlds.values()))
        number += step
        gc.freeze()  # what is there by now stays: modules, statements, templates
        gc.set_threshold(20_000, 20, 50)
    return tally
