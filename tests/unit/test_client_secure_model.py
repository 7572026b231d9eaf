"""One model for all legs of an attempt: row 5 is checked for it, it is shared under, and trained from."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from client_secure_world import World, bound_of, model_of
from secagg_world import name_of

from unisono.base.ids import ClientName
from unisono.client.session import Leg, Secure
from unisono.crypto import sha256_hex
from unisono.secagg.client import Release

VICTIM, OTHER = name_of(1), model_of(9)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], World]]:
    worlds: list[World] = []

    def made() -> World:
        worlds.append(World(tmp_path / str(len(worlds)), 4))
        return worlds[-1]

    yield made
    for world in worlds:
        world.stop()


def shown(world: World, leg: Leg, model: bytes) -> None:
    """Let the coordinator name another model to the victim in one leg; it has that one in its cache."""
    with world.sites[0].cache.arriving(sha256_hex(model), len(model)) as arriving:
        arriving.write(arriving.offset, model[arriving.offset :])
        arriving.finish()

    def change(who: ClientName, order: Secure) -> Secure:
        return replace(order, model=sha256_hex(model)) if (who, order.leg) == (VICTIM, leg) else order

    world.hub.change = change


@pytest.mark.parametrize("leg", ["roster", "deal", "survivors", "quorum"])
def test_another_model_in_a_later_leg(make: Callable[[], World], leg: Leg) -> None:
    """Else one site trains from a crafted model, and its context, signed by all, says that it did not."""
    world = make()
    shown(world, leg, OTHER)
    world.run()
    site = world.sites[0]
    assert [answer.code for who, answer in world.hub.failed if who == VICTIM] == ["second_context"]
    assert [line.detail["code"] for line in site.vault.audit() if line.kind == "refused"] == [
        "second_context"
    ]
    assert site.bench.trained == ([] if leg == "roster" else ["1.1"])  # from the model of the invitation
    if leg in {"roster", "deal"}:  # the others finish without it; in the later legs its upload counts
        assert (world.hub.mean()[:4] > 100).tolist() == [False, True, True, True]


def test_a_model_that_was_released_from_does_not_come_back_under_another_name(
    make: Callable[[], World],
) -> None:
    """Round 2 is announced with a new model, for which nothing is open, and goes on with that of round 1."""
    world = make()
    world.run()
    (release,) = world.sites[0].attempts.releases(world.hub.stage.book.setup.attempt.run)
    assert isinstance(release, Release)
    assert release.model == sha256_hex(world.hub.model)
    old, world.hub.model, world.hub.round, world.hub.attempt = world.hub.model, OTHER, 2, 0
    world.hub.bounds = (bound_of(old),)
    world.hub.open()
    shown(world, "roster", old)
    world.run()
    assert [answer.code for who, answer in world.hub.failed if who == VICTIM] == ["second_context"]
    assert len(world.sites[0].attempts.releases(world.hub.stage.book.setup.attempt.run)) == 1
