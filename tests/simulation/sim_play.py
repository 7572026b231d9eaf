"""Plays a world and looks at what is left of it."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing

import sim_ops as op
from sim_book import BEARABLE, Violation
from sim_plan import RUN
from sim_site import sites_of_this_world
from sim_story import Story
from sim_template import federation
from sim_time import VirtualLoop
from sim_world import World
from structlog.testing import capture_logs

from unisono.client.runtime import ledger
from unisono.client.runtime.notices import SatOut

# What an honest coordinator with honest clients never writes into its log ...
_LOUD = {
    "secagg_fault",
    "update_refused",
    "answered_falsely",
    "not_opened",
    "not_aggregated",
    "driver_died",
    "beat_failed",
    "step_failed",
    "fault",
    "not_started",
    "run_not_loaded",
    "not_saved",
    "effect_failed",
}
# ... unless its disk fails, which explains these.
_TROUBLE = {
    "not_aggregated",
    "not_saved",
    "effect_failed",
    "fault",
    "run_not_loaded",
    "not_started",
    "driver_died",
}  # that a bad disk explains


def play(setting: op.Setting, ops: Sequence[op.Op] = ()) -> Story:
    """Live a world to its end.  Raises Violation, or what a part of the product should not have raised."""
    loop = VirtualLoop()
    asyncio.set_event_loop(None)
    try:
        with federation(setting.sites) as path, sites_of_this_world(setting.mode), capture_logs() as lines:
            world = World(setting, path, loop)
            try:
                return loop.run_until_complete(_lived(world, ops, lines))
            finally:
                for site in world.sites:
                    site.kill()
                loop.run_until_complete(_closed(world))
    finally:
        loop.close()


async def _lived(world: World, ops: Sequence[op.Op], lines: Sequence[Mapping[str, object]]) -> Story:
    await world.play(ops)
    await _left_behind(world)
    _of_sites(world)
    for line in lines:
        event = line["event"]
        if event in _LOUD and not (world.disk.troubled and event in _TROUBLE):
            raise Violation(f"the log says {line}")
    lives = sum(site.lives for site in world.sites)
    return Story.of(world.promises, world.messages, world.loop.now, lives)


async def _closed(world: World) -> None:
    if world.house is not None:
        await world._bury()


async def _left_behind(world: World) -> None:
    """Nothing is left of an ended run but what it owns: its models, and books that agree."""
    await world.advance(12.0)
    house = world.house
    if house is not None and (house.hall.store.todo(RUN) or world.disk.troubled):  # for the next life
        await world.act(op.KillCoordinator())
    await world.start_coordinator()
    await world.advance(3.0)
    house = world.house
    assert house is not None
    hall = house.hall
    hall.store.verify_audit()
    if found := hall.store.todo(RUN):
        raise Violation(f"never done: {found}")
    if hall.runs or hall.sums._partials:
        raise Violation(f"an ended run is still active, or summed: {hall.runs} {hall.sums._partials}")
    if files := list((world.path / "coordinator" / "spool").glob("*/*")):
        raise Violation(f"the spool still holds {[file.name for file in files]}")
    if hall.blobs.digests() != hall.store.owned():
        raise Violation(f"blobs {hall.blobs.digests()} are not what is owned, {hall.store.owned()}")


def _of_sites(world: World) -> None:
    """No site saw what no honest coordinator causes, lost a line of its log, or keeps an update for ever."""
    for site in world.sites:
        for seen in site.seen:
            if isinstance(seen, SatOut) and seen.code not in BEARABLE:
                raise Violation(f"{site.name} sat out: {seen.code}: {seen.reason}")
        with closing(sqlite3.connect(site.folder / "state.db")) as database:
            list(ledger.lines(database))
        files = [file.name for file in (site.folder / "updates").glob("*")]
        if files and site.want is not None:
            raise Violation(f"{site.name} keeps {files} of a run that is over")
