"""The protocol end to end, both sides restarted at every step: exactly the survivors are in the sum."""

import numpy as np
import pytest
from secagg_world import Words, World, names

from unisono.secagg.server.faults import TooFewShares


@pytest.mark.parametrize(("n", "colluding"), [(3, 0), (4, 0), (5, 1), (8, 2)])
def test_everybody_survives(n: int, colluding: int) -> None:
    assert World(n, colluding).play().tolist() == [1] * n


def test_drop_outs_at_every_leg() -> None:
    """One never advertises, one never shares, one never uploads, one agrees late, one never reveals."""
    who, world = names(8), World(8)
    with pytest.raises(TooFewShares, match="3 of 5 survivors answered, 4 needed"):
        world.play(who[:7], who[:6], who[:5], who[:4], who[1:5])
    world.exchange(who[4:5])  # it agreed only now, and reveals
    assert world.coordinator.sum().tolist() == [1, 1, 1, 1, 1, 0, 0, 0]


def wide(attempt: int) -> Words:
    """Return what site 1 sends of a vector of 32 kB of zeros."""
    zeros = np.zeros(4096, np.uint64)
    world = World(4, attempt=attempt, vectors=dict.fromkeys(names(4), zeros), words=zeros.size)
    assert not world.play().any()
    uploaded = world.sites[names(4)[0]].upload
    assert uploaded is not None
    return uploaded


def test_masked_uploads_look_random_and_no_two_attempts_share_a_word() -> None:
    """Chi-square on bytes: 255 degrees of freedom, so 255 +- 5 standard deviations of 22.6."""
    one, two = wide(1), wide(2)
    for words in (one, two, one - two):
        counts = np.bincount(words.view(np.uint8), minlength=256)
        expected = words.nbytes / 256
        assert abs(float(((counts - expected) ** 2 / expected).sum()) - 255) < 5 * 22.6
    assert not set(one.tolist()) & set(two.tolist())
