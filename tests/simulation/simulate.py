"""Plays worlds for a while, on all cores, and says how many: `make simulate SECONDS=60`, or WORLDS=5000.

Two tiers, one after the other: whole processes (`sim_world`: store, handlers, messages, vaults), then the
machines alone (`sim_core_world`), which play several worlds where the others play one.  Each process lets
Hypothesis draw worlds under a seed of its own, so that every failure comes shrunk, as a list of operations
that can be pinned in `sim_pinned`.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PARTS = ("server", "client", "common", "tests/unit")
sys.path[:0] = [str(HERE), *(str(ROOT / part) for part in PARTS)]

from sim_batches import SHRINKING, TIERS, Tally, worker  # noqa: E402 - found there
from sim_pinned import PINNED  # noqa: E402

SHARE = {"whole": 0.3, "core": 1.0}  # of the time, at which a tier ends
PATIENCE = SHRINKING + 10.0  # seconds after its end in which a process has to be done


@dataclass(frozen=True)
class Order:
    """What to play."""

    worlds: int  # of each tier
    first: int  # seed
    processes: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=0, help="play so many of each tier")
    parser.add_argument("--seconds", type=float, default=0.0, help="play for so long")
    parser.add_argument("--seed", type=int, default=None, help="of the first batch")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    first = int(time.time()) % 1_000_000 * 1000 if chosen.seed is None else chosen.seed
    worlds = chosen.worlds or (10**9 if chosen.seconds else 2000)
    order = Order(worlds, first, max(1, chosen.processes))
    began, seconds = time.monotonic(), chosen.seconds or 86_400.0
    found: dict[str, tuple[Tally, float]] = {}
    with multiprocessing.get_context("spawn").Pool(order.processes) as pool:  # they start meanwhile
        pinned = play_pinned(began + SHARE["whole"] * seconds)
        for tier, share in SHARE.items():
            begun = time.monotonic()
            tally = play_tier(pool, tier, order, began + share * seconds)
            found[tier] = tally, time.monotonic() - begun
            if tally.stuck:
                break
    return tell(found, first, pinned)


def play_pinned(until: float) -> int:
    """Play the worlds that always run, as far as there is time; return how many."""
    for count, (name, world) in enumerate(PINNED.items()):
        if time.monotonic() >= until:
            print(f"pinned: no time for the last {len(PINNED) - count}; pytest tests/simulation plays all")
            return count
        for play in TIERS.values():
            play(*world)
        print(f"pinned: {name}", flush=True)
    return len(PINNED)


def play_tier(pool: Pool, tier: str, order: Order, until: float) -> Tally:
    """Play one tier in all processes; when one does not end when it should, say so and go."""
    tally, count = Tally(), order.processes
    limits = -(-order.worlds // count), until
    tasks = [(tier, order.first + number, count, limits) for number in range(count)]
    running = pool.starmap_async(worker, tasks, chunksize=1)
    try:
        found = running.get(max(0.1, until + PATIENCE - time.monotonic()))
    except multiprocessing.TimeoutError:
        tally.stuck = True
        tally.failures.append(f"{tier}: a process did not end by itself; what it played is not counted")
        return tally
    for one in found:
        tally.add(one)
    return tally


def tell(found: dict[str, tuple[Tally, float]], first: int, pinned: int) -> int:
    """Print what came of it, the last line as JSON."""
    failures = [failure for tally, _ in found.values() for failure in tally.failures]
    for failure in failures:
        print(failure)
    worlds = {tier: sum(tally.worlds.values()) for tier, (tally, _) in found.items()}
    total, seconds = sum(worlds.values()), sum(spent for _, spent in found.values())
    tiers = {
        tier: {
            "worlds": worlds[tier],
            **tally.worlds,
            "worlds_per_minute": _rate(worlds[tier], spent),
            "ends": dict(tally.ends),
            "rounds_published": tally.rounds,
            "messages": tally.messages,
        }
        for tier, (tally, spent) in found.items()
    }
    summary = {"worlds": total, "worlds_per_minute": _rate(total, seconds), **tiers}
    print(json.dumps({**summary, "pinned": pinned, "first_seed": first, "failures": len(failures)}))
    return 1 if failures else 0


def _rate(worlds: int, seconds: float) -> int:
    return round(60 * worlds / max(seconds, 1e-9))


if __name__ == "__main__":
    raise SystemExit(main())
