"""Worlds: pinned ones always, and a sample of those that Hypothesis draws; `make simulate` plays many."""

import os

import pytest
import sim_lists
import sim_ops as op
from hypothesis import HealthCheck, given, settings
from sim_core_play import play_core
from sim_pinned import PINNED
from sim_play import play

SAMPLE = int(os.environ.get("UNISONO_WORLDS", "60"))  # of each protection


@pytest.mark.parametrize("name", PINNED)
def test_pinned(name: str) -> None:
    play(*PINNED[name])


@pytest.mark.parametrize("name", PINNED)
def test_pinned_of_the_machines_alone(name: str) -> None:
    play_core(*PINNED[name])


@pytest.mark.parametrize("mode", ["sealed", "secagg"])
def test_quiet_worlds_count_everybody_and_need_no_second_life(mode: str) -> None:
    story = play(op.Setting(mode="sealed" if mode == "sealed" else "secagg", rounds=2))
    assert (story.state, story.lives) == ("finished", 3)
    assert story.rounds == [("alder", "beech", "cedar")] * 2


def test_a_site_that_is_gone_is_given_up_and_the_round_is_published_without_it() -> None:
    story = play(
        op.Setting(mode="sealed", size=3),
        [op.Slow(0, 6.0), op.Advance(3.0), op.KillSite(0), op.Advance(20.0)],
    )
    assert (story.state, story.rounds) == ("finished", [("beech", "cedar")])


def test_a_site_that_trains_for_long_with_progress_is_waited_for() -> None:
    story = play(op.Setting(mode="secagg", size=3), [op.Slow(0, 90.0), op.Advance(120.0)])
    assert (story.state, story.rounds) == ("finished", [("alder", "beech", "cedar")])
    assert story.lives == 3


@settings(max_examples=SAMPLE, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sim_lists.worlds("sealed"))
def test_any_sealed_world(world: tuple[op.Setting, list[op.Op]]) -> None:
    play(*world)


@settings(max_examples=SAMPLE, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sim_lists.worlds("secagg"))
def test_any_secagg_world(world: tuple[op.Setting, list[op.Op]]) -> None:
    play(*world)


@settings(max_examples=SAMPLE, derandomize=True, suppress_health_check=list(HealthCheck))
@given(sim_lists.core_worlds())
def test_any_world_of_the_machines_alone(world: tuple[op.Setting, list[op.Op]]) -> None:
    play_core(*world)
