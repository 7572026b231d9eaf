"""Plays a world of the fast tier: a list of operations, then peace."""

from collections.abc import Sequence

import sim_ops as op
from sim_core_world import CoreWorld
from sim_story import Story


def play_core(setting: op.Setting, ops: Sequence[op.Op] = ()) -> Story:
    """Live a world to its end.  Raises Violation, or what a machine should not have raised."""
    world = CoreWorld(setting)
    try:
        world.play(ops)
    finally:
        for site in world.sites:
            site.kill()
            site.paper.close()
    return Story.of(world.book, world.messages, world.time.now, sum(site.lives for site in world.sites))
