"""The protocol end to end, both sides restarted at every step: exactly the survivors are in the sum."""

import pytest
from secagg_world import World, names

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
