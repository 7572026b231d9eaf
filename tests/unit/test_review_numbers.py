"""Numbers that one client chooses and all would suffer from: refused while it is known whose they are."""

import numpy as np
import pytest

from unisono.base.errors import BadMessage, BadUpdate
from unisono.base.ids import Digest
from unisono.codec import Spec, SpecPart, first_bound, next_bound
from unisono.plan import Plan
from unisono.server.aggregation import read_head
from unisono.server.rounds import begin
from unisono.tensors import Entry, Manifest

HEAD = ("one", "weight", "loss.sum", "loss.count")
SPEC = Spec(32, 3, (SpecPart("delta", 2, 1.0, weighted=True),), HEAD)
UNIT = 1 << 24
MOST = (2**63 - 1) // 3


def words(total: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array([UNIT, UNIT, total, count], np.int64).view(np.uint64)


@pytest.mark.parametrize(
    ("total", "count", "name"),
    [
        (MOST + 1, UNIT, "loss.sum"),
        (-MOST - 1, UNIT, "loss.sum"),
        (-(2**63), UNIT, "loss.sum"),
        (UNIT, MOST + 1, "loss.count"),
        (UNIT, 2**63 - 1, "loss.count"),
    ],
)
def test_a_number_that_would_overflow_the_sum_is_refused_of_the_client_that_sent_it(
    total: int, count: int, name: str
) -> None:
    """The sum of such a count and an honest one is negative: every attempt would fail, nobody be named."""
    with pytest.raises(BadUpdate, match=f'"{name}" is'):
        read_head(SPEC, words(total, count), 1)


def test_the_largest_numbers_of_all_clients_add_up() -> None:
    assert read_head(SPEC, words(MOST, MOST), 1).metrics == {"loss": 1.0}
    total = np.array([3 * UNIT, 3 * UNIT, 3 * MOST, 3 * MOST], np.int64).view(np.uint64)
    assert read_head(SPEC, total, 3).metrics == {"loss": 1.0}


def test_a_model_whose_bound_no_spec_may_have_starts_no_run() -> None:
    plan = Plan.model_validate(
        {"task": "x", "protection": {"mode": "sealed"}, "model": {"init": "m.safetensors"}}
    )
    with pytest.raises(BadUpdate, match="norm 3e\\+38"):
        begin(plan, 0.0, (Digest("0" * 64), 3e38))
    for bound in (first_bound(1e-38), first_bound(9.9e29), next_bound(1e30, 1e30, 100, 10)):
        Spec(32, 2, (SpecPart("delta", 2, bound, weighted=True),), HEAD)


@pytest.mark.parametrize("name", ["w\x1b[2J", "w\n", "w\u202e", "w\x00"])
def test_names_that_would_drive_a_terminal_are_in_no_manifest(name: str) -> None:
    """They come from one client, and are shown to the operator and to every other client."""
    with pytest.raises(BadMessage, match="printed"):
        Entry(name, (1,), "F32", travels=True)
    with pytest.raises(BadMessage, match="printed"):
        Manifest((Entry("w", (1,), "F32", travels=True),), (name,))
