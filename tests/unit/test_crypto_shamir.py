"""Shamir shares: pinned ones, an oracle in fractions, and what must be refused by name."""

import json
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import Corrupt, Fault
from unisono.crypto import Stream
from unisono.crypto.shamir import MOST_SHARES, PRIME, SHARE, Lagrange, combine, split


class Shared(TypedDict):
    name: str
    secret: str
    threshold: int
    count: int
    entropy: int
    shares: list[str]


class Combined(TypedDict, total=False):
    name: str
    threshold: int
    shares: dict[str, str]
    secret: str
    error: str


CASES = json.loads((Path(__file__).resolve().parent.parent / "vectors" / "shamir.json").read_text())


def entropy_of(seed: int) -> Callable[[int], bytes]:
    stream = Stream(seed.to_bytes(32, "big"))

    def draw(count: int) -> bytes:
        out = bytearray(count)
        stream.fill(out)
        return bytes(out)

    return draw


def slow_at_zero(points: dict[int, int]) -> int:
    """Lagrange's formula with the whole product as one fraction, reduced mod p once."""
    total = Fraction(0)
    for x, y in points.items():
        term = Fraction(y)
        for other in points:
            if other != x:
                term *= Fraction(-other, x - other)
        total += term
    return total.numerator * pow(total.denominator, -1, PRIME) % PRIME


secrets = st.binary(min_size=32, max_size=32)


@given(secret=secrets, seed=st.integers(0, 2**64), data=st.data())
def test_any_t_shares_give_the_secret_as_the_slow_oracle_says(
    secret: bytes, seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(2, 12))
    threshold = data.draw(st.integers(2, count))
    shares = split(secret, threshold, count, entropy_of(seed))
    chosen = data.draw(st.permutations(range(1, count + 1)))[:threshold]
    points = {x: int.from_bytes(shares[x - 1], "big") for x in chosen}
    assert slow_at_zero(points) == int.from_bytes(secret, "big")
    assert combine({x: shares[x - 1] for x in chosen}, threshold) == secret


def test_one_share_too_few_leads_elsewhere() -> None:
    shares = split(b"\7" * 32, 4, 6, entropy_of(1))
    for xs in combinations(range(1, 7), 3):
        wrong = slow_at_zero({x: int.from_bytes(shares[x - 1], "big") for x in xs})
        assert wrong != int.from_bytes(b"\7" * 32, "big")


def test_coefficients_are_new_for_every_secret() -> None:
    draw = entropy_of(2)
    first, second = split(bytes(32), 3, 5, draw), split(bytes(32), 3, 5, draw)
    assert not set(first) & set(second)
    assert len(set(first)) == 5


def test_one_set_of_weights_serves_many_secrets_and_ignores_other_shares() -> None:
    weights = Lagrange([9, 2, 5])
    for seed in range(3):
        shares = dict(enumerate(split(bytes([seed]) * 32, 3, 10, entropy_of(seed)), 1))
        assert weights.at_zero(shares) == bytes([seed]) * 32


@pytest.mark.parametrize("case", CASES["successes"], ids=lambda c: c["name"])
def test_pinned_shares(case: Shared) -> None:
    secret, draw = bytes.fromhex(case["secret"]), entropy_of(case["entropy"])
    assert [s.hex() for s in split(secret, case["threshold"], case["count"], draw)] == case["shares"]


@pytest.mark.parametrize("case", CASES["combined"], ids=lambda c: c["name"])
def test_pinned_combinations(case: Combined) -> None:
    shares = {int(x): bytes.fromhex(y) for x, y in case["shares"].items()}
    if "error" in case:
        with pytest.raises(Corrupt, match=case["error"]):
            combine(shares, case["threshold"])
    else:
        assert combine(shares, case["threshold"]).hex() == case["secret"]


@pytest.mark.parametrize("xs", [[], [0, 1], [1, 1], [-1, 2], [1, MOST_SHARES + 1]])
def test_holders_outside_the_roster_are_refused(xs: list[int]) -> None:
    with pytest.raises(Corrupt, match="distinct numbers"):
        Lagrange(xs)


@pytest.mark.parametrize(
    ("length", "threshold", "count"), [(31, 2, 3), (33, 2, 3), (32, 1, 3), (32, 4, 3), (32, 2, 1001)]
)
def test_a_sharing_that_cannot_be_is_a_fault(length: int, threshold: int, count: int) -> None:
    with pytest.raises(Fault, match="2 <= t <= n"):
        split(bytes(length), threshold, count, entropy_of(0))


def test_the_field_is_a_prime_field() -> None:
    """Fermat's test to 20 bases: p is 2^256 + 297, prime, and no number between it and 2^256 is."""
    assert all(pow(a, PRIME - 1, PRIME) == 1 for a in range(2, 22))
    assert not any(pow(3, q - 1, q) == 1 for q in range(2**256 + 1, PRIME, 2))
    assert (PRIME.bit_length() + 7) // 8 == SHARE
