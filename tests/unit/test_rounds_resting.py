"""A quorum goes on without who may not fetch the model before the evening; nobody else is left for that."""

from dataclasses import replace

import pytest
from secagg_world import names
from test_rounds_securing import World, plan_of

from unisono.base.ids import Digest
from unisono.server.rounds import Initialising, InRound, Lost, Securing, begin, spared

LATE = names(5)[4]


def world_of(wait: str, colluding: int = 0) -> World:
    plan = plan_of(5, colluding, rounds={"wait": wait})
    return World(plan, 5)


def leg(world: World) -> str:
    stage = world.run.stage
    return stage.phase.leg if isinstance(stage, InRound) and isinstance(stage.phase, Securing) else ""


@pytest.mark.parametrize("at", ["advertising", "sharing"])
def test_a_quorum_goes_on_without_who_rests(at: str) -> None:
    world = world_of("quorum")
    world.reach(at, names(5))
    for name in names(5)[:4]:
        world.poll(name)
    assert leg(world) == at
    assert spared(world.plan, world.run, frozenset({LATE})) == {LATE}
    assert spared(world.plan, world.run, frozenset()) == frozenset()
    assert spared(world.plan, world.run, frozenset({names(5)[0]})) == frozenset()  # has said its word
    world.feed(Lost(LATE, "sends from 20:00 to 06:00 only"))
    world.settle(names(5)[:4])
    first = next(world.published())
    assert first.survivors == names(5)[:4]
    assert first.reasons == ((LATE, "sends from 20:00 to 06:00 only"),)


def test_all_wait_for_the_evening_where_the_plan_says_so() -> None:
    world = world_of("all")
    world.reach("sharing", names(5))
    assert spared(world.plan, world.run, frozenset({LATE})) == frozenset()


def test_a_round_that_would_be_too_small_waits() -> None:
    world = world_of("quorum", colluding=2)
    world.reach("sharing", names(5))
    resting = frozenset(names(5)[2:])
    assert spared(world.plan, world.run, resting) == frozenset()


def test_who_uploads_is_left_to_the_grace() -> None:
    world = world_of("quorum")
    world.reach("uploading", names(5))
    assert spared(world.plan, world.run, frozenset({LATE})) == frozenset()
    assert leg(world) == "uploading"


def test_a_first_model_is_asked_of_a_site_that_may_send_it() -> None:
    plan = plan_of(3, rounds={"wait": "quorum"})
    a, b, c = names(3)
    digest = Digest("22" * 32)
    run = replace(
        begin(plan, 0.0).run, roster=(a, b, c), stage=Initialising(a, digest, ((b, digest), (c, digest)))
    )
    assert spared(plan, run, frozenset({a})) == {a}
    assert spared(plan, run, frozenset({b})) == frozenset()
    assert spared(plan, run, frozenset({a, b, c})) == frozenset()
    assert spared(plan, replace(run, away=frozenset({b, c})), frozenset({a})) == frozenset()
    assert spared(plan_of(3), run, frozenset({a})) == frozenset()  # its round waits for it anyway
