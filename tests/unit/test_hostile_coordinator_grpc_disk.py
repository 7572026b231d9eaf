"""A hostile coordinator against a real client over gRPC: disks that were copied, put back or lost, restarts.

Rows 3 and 20 of reference 1.4; and a restart forgets no refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from hostile_scheme import ALL, HONEST, VICTIM, Lie, Scheme, crafted
from hostile_world import Hostile, refuses, tell, template

from unisono.secagg.shared.messages import Deal, Quorum

if TYPE_CHECKING:
    from unisono.wire.v1 import round_pb2 as pb

__all__ = ["tell", "template"]

# row 3


async def held(world: Hostile) -> None:
    """Bring everybody to the upload, whose first byte is not sent by the victim."""
    world.scheme.hold = True
    await world.begin()
    world.live("a", "b", "c")
    d = world.sites[3]
    assert [await d.step() for _ in range(2)] == ["Invitation", "Roster"]
    await world.until(lambda: "released" in [line.kind for line in world.victim.audit()])


def test_3_a_copied_folder(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        await held(world)
        await world.victim.stop()
        state = world.victim.folder / "state.db"
        state.rename(world.victim.folder / "backup")
        state.write_bytes((world.victim.folder / "backup").read_bytes())
        world.scheme.hold = False
        world.victim.start()
        world.live("d")
        await refuses(world, "state_rolled_back")
        await world.published(1, HONEST)
        assert world.scheme.left(1) == ["advertise", "share"]
        await world.published(2)

    tell(story)


def test_3_a_state_put_back_in_its_place(tell: Callable[..., None]) -> None:
    """The coordinator shows an upload that this site signed, and its disk does not know."""

    async def story(world: Hostile) -> None:
        await held(world)
        await world.victim.stop()
        state = world.victim.folder / "state.db"
        before = state.read_bytes()
        world.scheme.hold = False
        world.victim.start()
        await world.until(lambda: VICTIM in world.uploaded)
        await world.victim.stop()
        state.write_bytes(before)
        assert await world.sites[3].step() == "Deal"
        # Before U2 the victim would send the same again; without d's agreement the round cannot end before
        # the victim, which takes its time to start, is shown U2.
        await world.until(lambda: world.scheme.said("a", "agree", 1))
        world.victim.start()
        await refuses(world, "state_rolled_back")
        world.live("d")
        await world.published(1)
        assert world.scheme.left(1) == ["advertise", "share", "bytes", "upload"]
        await world.published(2)

    tell(story)


# row 20


def test_20_a_second_vector_under_the_same_masks(tell: Callable[..., None]) -> None:
    """The vector was lost after its digest was written, and the task makes another one."""

    async def story(world: Hostile) -> None:
        await held(world)
        await world.victim.stop()
        (vector,) = (world.victim.folder / "updates").glob("*.vector")
        vector.unlink()
        for masked in (world.victim.folder / "updates").glob("*.masked"):
            masked.unlink()
        (world.victim.folder / "change.txt").write_text("2.0")
        world.scheme.hold = False
        world.victim.start()
        await refuses(world, "vector_changed")
        world.live("d")
        await world.published(1, HONEST)
        assert world.scheme.left(1) == ["advertise", "share"]
        await world.published(2)

    tell(story)


# a restart forgets no refusal


def cut_down(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    deal = Deal.decode(secure.message)
    return crafted(secure, message=Deal((1, 2, 5), deal.parcels[:2]).encode())


def test_17_the_truth_comes_too_late_also_after_a_restart(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        world.scheme.lie = Lie(cut_down, "deal")
        await world.begin()
        world.live("a", "b", "c")
        d = world.sites[3]
        assert [await d.step() for _ in range(2)] == ["Invitation", "Roster"]
        await refuses(world, "too_few_shared")
        await world.victim.stop()
        world.scheme.forced = world.scheme.shown[1, 1, "deal"]
        world.victim.start()
        await world.until(lambda: len(world.scheme.codes()) == 2)
        world.live("d")
        await world.published(1, HONEST)
        assert set(world.scheme.codes()) == {"too_few_shared"}
        assert world.scheme.left(1) == ["advertise", "share"]
        await world.published(2)

    tell(story)


def test_24_a_stopped_run_stays_stopped_after_a_restart(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        def short(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
            quorum = Quorum.decode(secure.message)
            return crafted(secure, message=replace(quorum, signatures=quorum.signatures[:3]).encode())

        world.scheme.lie = Lie(short, "quorum")
        await world.begin()
        world.live()
        await refuses(world, "no_quorum")
        await world.victim.again()
        begin = world.last[0] + 1
        await world.until(lambda: world.last[0] > begin + 1)
        assert not any(world.scheme.left(round_) for round_ in range(2, begin + 2))
        world.victim.approve()
        await world.until(lambda: world.last[1] == ALL)

    tell(story)
