"""The protocol end to end, both sides restarted at every step: exactly the survivors are in the sum."""

from itertools import combinations

import numpy as np
import pytest
from secagg_world import Words, World, names

from unisono.base.ids import ClientName
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


def wide(attempt: int) -> dict[ClientName, Words]:
    """Return what four sites send of vectors of 32 kB of zeros."""
    zeros = np.zeros(4096, np.uint64)
    world = World(4, attempt=attempt, vectors=dict.fromkeys(names(4), zeros), words=zeros.size)
    assert not world.play().any()
    return {name: site.upload for name, site in world.sites.items() if site.upload is not None}


def unevenness(words: Words) -> float:
    """Chi-square on bytes, in standard deviations: 255 degrees of freedom, so 22.6 each."""
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    return (float(((counts - expected) ** 2 / expected).sum()) - 255) / 22.6


def test_masked_uploads_pass_a_chi_square_on_bytes() -> None:
    """Of zeros, which are nothing but masks: each alone, all in a row, and what any two have in common."""
    uploads = list(wide(1).values())
    assert len(uploads) == 4
    for words in (*uploads, np.concatenate(uploads), *(a - b for a, b in combinations(uploads, 2))):
        assert abs(unevenness(words)) < 5
    assert unevenness(np.zeros(4096, np.uint64)) > 1000


def test_two_attempts_never_share_a_mask_word() -> None:
    """Nor two sites, nor two attempts anywhere: at any place, of 32768 words of 64 bits."""
    words = [word for attempt in (1, 2) for upload in wide(attempt).values() for word in upload.tolist()]
    assert len(words) == len(set(words)) == 8 * 4096
