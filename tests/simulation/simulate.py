"""Plays worlds for a while, on all cores, and says how many: `make simulate SECONDS=60`, or WORLDS=5000.

Each process lets Hypothesis draw worlds under a seed of its own, so that every failure comes shrunk, as a
list of operations that can be pinned in `sim_pinned`.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), *(str(ROOT / part) for part in ("server", "client", "common"))]

import sim_lists  # noqa: E402 - found there
import sim_ops as op  # noqa: E402
from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from sim_pinned import PINNED  # noqa: E402
from sim_play import play  # noqa: E402

BATCH = 200  # worlds under one seed


@dataclass
class Tally:
    """What one process has seen."""

    worlds: Counter[str] = field(default_factory=Counter)  # by protection
    ends: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    messages: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.worlds += other.worlds
        self.ends += other.ends
        self.rounds += other.rounds
        self.messages += other.messages
        self.failures += other.failures

    def live(self, world: tuple[op.Setting, list[op.Op]]) -> None:
        self.worlds[world[0].mode] += 1
        story = play(*world)
        self.ends[story.state] += 1
        self.rounds += len(story.rounds)
        self.messages += story.messages


def batch(number: int, worlds: int, until: float) -> Tally:
    """Play worlds under one seed; after `until` those left are passed over."""
    tally = Tally()

    @seed(number)
    @settings(max_examples=worlds, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(sim_lists.worlds())
    def any_world(world: tuple[op.Setting, list[op.Op]]) -> None:
        if time.monotonic() < until or tally.failures:
            try:
                tally.live(world)
            except BaseException:
                tally.failures.append("")
                raise

    try:
        any_world()
    except Exception as failure:
        notes = "\n".join(getattr(failure, "__notes__", ()))
        tally.failures = [f"seed {number}: {type(failure).__name__}: {failure}\n{notes}"]
    return tally


def worker(first: int, step: int, limits: tuple[int, float]) -> Tally:
    """Play batch after batch: with seeds first, first + step ..."""
    warnings.simplefilter("ignore")  # Hypothesis, of databases and slow data
    worlds, until = limits
    tally, number = Tally(), first
    while worlds > 0 and time.monotonic() < until:
        found = batch(number, min(BATCH, worlds), until)
        tally.add(found)
        worlds -= max(BATCH, sum(found.worlds.values()))
        number += step
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=0, help="play so many")
    parser.add_argument("--seconds", type=float, default=0.0, help="play for so long")
    parser.add_argument("--seed", type=int, default=None, help="of the first batch")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    first = int(time.time()) % 1_000_000 * 1000 if chosen.seed is None else chosen.seed
    worlds = chosen.worlds or (10**9 if chosen.seconds else 2000)
    began = time.monotonic()
    for name, world in PINNED.items():
        play(*world)
        print(f"pinned: {name}", flush=True)
    begun, until = time.monotonic(), began + (chosen.seconds or 86_400.0)
    tally, count = Tally(), max(1, chosen.processes)
    share = -(-worlds // count), until
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        for found in pool.starmap(worker, [(first + number, count, share) for number in range(count)]):
            tally.add(found)
    return tell(tally, time.monotonic() - begun, first)


def tell(tally: Tally, seconds: float, first: int) -> int:
    """Print what came of it, the last line as JSON."""
    for failure in tally.failures:
        print(failure)
    number = sum(tally.worlds.values())
    print(
        json.dumps(
            {
                "worlds": number,
                **tally.worlds,
                "worlds_per_minute": round(60 * number / max(seconds, 1e-9)),
                "ends": dict(tally.ends),
                "rounds_published": tally.rounds,
                "messages": tally.messages,
                "pinned": len(PINNED),
                "first_seed": first,
                "failures": len(tally.failures),
            }
        )
    )
    return 1 if tally.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
