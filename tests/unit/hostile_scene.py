"""A client whose coordinator lies to it in one leg, and what is seen of it: shared by hostile tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

from client_secure_world import RUN, Change, Site, World
from secagg_world import name_of

from unisono.client.runtime.approvals import Answer, Approvals, Question
from unisono.client.runtime.notices import SatOut
from unisono.client.session import Secure
from unisono.plan import canonical

Make = Callable[..., World]
VICTIM = name_of(1)


def scenes(tmp_path: Path) -> Iterator[Make]:
    """Make worlds in which the victim is sent something else; for a fixture."""
    worlds: list[World] = []

    def made(change: Change | None = None, n: int = 3, **fields: object) -> World:
        world = World(tmp_path / str(len(worlds)), n, **fields)  # type: ignore[arg-type]
        if change is not None:
            world.hub.change = lambda who, order: change(who, order) if who == VICTIM else order
        worlds.append(world)
        return world

    yield made
    for world in worlds:
        world.stop()


def refusal(world: World, site: int = 1) -> tuple[str, str]:
    """Let the world run; return code and peer of what the site refused with, as told and as audited."""
    world.run()
    victim = world.sites[site - 1]
    told = [answer for who, answer in world.hub.failed if who == victim.name]
    audited = [line for line in victim.vault.audit() if line.kind == "refused"]
    shown = [notice for notice in victim.seen if isinstance(notice, SatOut)]
    assert len(told) == len(audited) == len(shown) == 1, (told, audited)
    assert told[0].code == audited[0].detail["code"] == shown[0].code
    assert told[0].text == audited[0].detail["reason"]
    return told[0].code, str(audited[0].detail["peer"])


def at(leg: str, change: Callable[[Secure], Secure]) -> Change:
    """Change what the victim is sent in one leg."""
    return lambda _, order: change(order) if order.leg == leg else order


def word(value: object) -> str:
    """Name a case by its code."""
    return value if isinstance(value, str) else ""


def approve(site: Site, plan: str) -> None:
    """Do what `unisono client plans approve` does."""
    box, asked = Approvals(site.folder), canonical(site.hub.plan).decode()
    box.ask(Question(digest=plan, plan=asked, run=RUN, cohort=3, asked=0.0, waits=False))
    box.say(box.find(plan), Answer(said="approved", wall=site.clock.wall()))


def shared(site: Site) -> int:
    """Return how many share messages left a site."""
    return sum(b"share" in raw[:60] for raw in site.wire.leaves)
