"""What goes wrong and when: a pure function of a seed, so that a failure can be played again."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

Kind = Literal[
    "kill",  # SIGKILL to a process; its trainer is left to find out
    "power",  # SIGKILL to a process and all it started, as if the power failed
    "trainer",  # SIGKILL to a client's trainer
    "stop",  # SIGSTOP, later SIGCONT
    "cut",  # every connection of a link is reset
    "slow",  # 200 ms each way and 2 MB/s
    "half_open",  # connections of a link are forgotten: nothing moves, nobody is told; new ones work
    "dark",  # nothing passes a link at all, nobody is told
    "disk_full",  # not one byte is left
    "disk_low",  # less is left than the coordinator wants to keep free
]
COORDINATOR = "coordinator"
KEEPALIVE = 30.0  # seconds until gRPC on either side gives up a silent connection: 20 + 10

_KINDS: tuple[tuple[Kind, int], ...] = (
    ("kill", 6), ("power", 3), ("trainer", 2), ("stop", 4), ("cut", 6), ("slow", 3), ("half_open", 2),
    ("dark", 2), ("disk_full", 3), ("disk_low", 1),
)  # fmt: skip
_LONG_FROM = 120.0  # seconds of chaos from which on pauses outlast the keepalive
_CLIENTS_ONLY = frozenset({"trainer"})
_COORDINATOR_ONLY = frozenset({"disk_low"})
_DISK = frozenset({"disk_full", "disk_low"})
_GAPS = (0.3, 4.5)  # seconds between the beginnings of two faults


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` befalls `target` at `at` and is over `seconds` later: restarted, continued, freed, healed."""

    at: float
    kind: Kind
    target: str
    seconds: float

    @property
    def end(self) -> float:
        return self.at + self.seconds


def timetable(seed: int, seconds: float, clients: tuple[str, ...], *, disks: bool) -> tuple[Fault, ...]:
    """Return the faults of `seconds` of chaos, in order.  A target has one trouble at a time.

    Kinds come from a deck that is shuffled anew when it is used up, so that every kind has its turn in the
    first minute; the coordinator is met about every third time.
    """
    random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    deck, held = _deck(random, disks=disks), list[Kind]()
    busy, now, found = dict[str, float](), 1.0, list[Fault]()

    def free(kind: Kind) -> list[str]:
        return [target for target in _targets(kind, clients) if busy.get(target, 0.0) <= now]

    while now < seconds:
        waiting = [kind for kind in held if free(kind)]
        kind = waiting[0] if waiting else next(deck)
        if waiting:
            held.remove(kind)
        if targets := free(kind):
            first = targets[0] == COORDINATOR and random.random() < 0.3
            target = COORDINATOR if first else random.choice(targets)
            fault = Fault(round(now, 3), kind, target, round(_length(kind, random, seconds), 3))
            busy[target] = fault.end + 1.0
            found.append(fault)
        else:
            held.append(kind)  # its turn comes when its target is well again
        now += random.uniform(*_GAPS)
    return tuple(found)


def _deck(random: Random, *, disks: bool) -> Iterator[Kind]:
    cards = [kind for kind, count in _KINDS for _ in range(count) if disks or kind not in _DISK]
    while True:
        random.shuffle(cards)
        yield from cards


def _targets(kind: Kind, clients: tuple[str, ...]) -> tuple[str, ...]:
    if kind in _CLIENTS_ONLY:
        return clients
    return (COORDINATOR,) if kind in _COORDINATOR_ONLY else (COORDINATOR, *clients)


def _length(kind: Kind, random: Random, seconds: float) -> float:
    """Return how long it lasts; every other pause of a long chaos outlasts the keepalive."""
    match kind:
        case "kill" | "power":
            return random.uniform(0.0, 2.5)
        case "trainer" | "cut":
            return 0.0
        case "slow":
            return random.uniform(4.0, 15.0)
        case "disk_full" | "disk_low":
            return random.uniform(2.0, 8.0)
    if seconds >= _LONG_FROM and random.random() < 0.5:
        return KEEPALIVE + random.uniform(2.0, 8.0)
    return random.uniform(1.0, 6.0)
