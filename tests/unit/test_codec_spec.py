"""Spec, head, bounds and the rounding key."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import BadMessage, BadUpdate
from unisono.base.ids import Digest
from unisono.codec import (
    LANES,
    Spec,
    SpecPart,
    client_weight,
    decode_head,
    encode_head,
    first_bound,
    head_names,
    next_bound,
    rounding_stream,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
parts = st.builds(
    SpecPart,
    names,
    st.integers(0, 2**40),
    st.floats(1e-30, 1e30),
    st.booleans(),
)
specs = st.builds(
    lambda lanes, clients, found, head: Spec(lanes, clients, tuple(found), tuple(head)),
    st.sampled_from(LANES),
    st.integers(1, 2000),
    st.lists(parts, max_size=3, unique_by=lambda p: p.name),
    st.lists(names, max_size=4, unique=True),
)


@given(specs)
def test_a_spec_survives_its_bytes_and_never_overflows(spec: Spec) -> None:
    again = Spec.decode(spec.encode())
    assert again == spec
    assert again.digest == spec.digest
    assert 2 * spec.clients * spec.levels + 1 <= 2**spec.lanes
    assert 2 * spec.clients * (spec.levels + 1) + 1 > 2**spec.lanes  # no finer grid would fit


@given(specs)
def test_parts_and_head_follow_each_other_without_gaps(spec: Spec) -> None:
    lanes, offset, start = 64 // spec.lanes, 0, 0
    for part in spec.parts:
        assert spec.offset(part.name) == offset
        assert spec.start(part.name) == start
        assert spec.word_range(part.name, 0, part.length) == (offset, math.ceil(part.length / lanes))
        offset += math.ceil(part.length / lanes)
        start += part.length
    assert (spec.head_offset, spec.words) == (offset, offset + len(spec.head))
    assert spec.bytes == 8 * spec.words


def test_levels_are_those_of_the_reference() -> None:
    assert {w: Spec(w, 16, (), ()).levels for w in LANES} == {12: 127, 16: 2047, 21: 65535, 32: 2**27 - 1}


GOOD = Spec(12, 3, (SpecPart("delta", 5, 0.5, True),), ("one",)).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"lanes":12', b'"lanes":13'),
        (b'"lanes":12', b'"lanes":true'),
        (b'"clients":3', b'"clients":0'),
        (b'"clients":3', b'"clients":2048'),
        (b'"clients":3', b'"clients":true'),
        (b'"clients":3', b'"clients":3.0'),
        (b'"clients":3', b'"clients":3,"clients":3'),
        (b'"clients":3', b'"clients": 3'),
        (b'5,0.5', b'-5,0.5'),
        (b'5,0.5', b'true,0.5'),
        (b'0.5', b'0.50'),
        (b'0.5', b'0.0'),
        (b'0.5', b'-1.0'),
        (b'0.5', b'1e999'),
        (b'0.5', b'NaN'),
        (b'0.5', b'1'),
        (b',true]', b',true,1]'),
        (b'["one"]', b'["one","one"]'),
        (b'["one"]', b'[1]'),
        (b'"none"', b'"two"'),
        (b'spec/1', b'spec/2'),
        (b'}', b',"more":1}'),
        (b'}', b''),
        (b'{', b'[' * 100_000),
        (b'{', b' ' * (1 << 20) + b'{'),
        (b'"delta"', b'"\\ud800"'),
    ],
)  # fmt: skip
def test_a_hostile_spec_is_a_bad_message(old: bytes, new: bytes) -> None:
    assert old in GOOD
    with pytest.raises(BadMessage):
        Spec.decode(GOOD.replace(old, new, 1))


def test_names_are_unique_and_known() -> None:
    part = SpecPart("a", 1, 1.0, True)
    with pytest.raises(BadMessage, match="named twice"):
        Spec(32, 2, (part, part), ())
    with pytest.raises(BadUpdate, match='no part "b"'):
        Spec(32, 2, (part,), ()).part("b")


HEAD = Spec(32, 100, (), head_names(["loss"]))


def test_the_head_has_names_in_order() -> None:
    assert HEAD.head == ("one", "weight", "loss.sum", "loss.count")


@given(st.lists(st.tuples(*[st.floats(-1e9, 1e9)] * 3), min_size=1, max_size=100))
def test_heads_add_up_mod_2_to_the_64(rows: list[tuple[float, float, float]]) -> None:
    total = np.zeros(4, np.uint64)
    for row in rows:
        words = encode_head(dict(zip(HEAD.head, (1.0, *row), strict=True)), HEAD)
        alone = decode_head(words, HEAD)
        assert all(abs(alone[n] - v) <= 2**-25 for n, v in zip(HEAD.head, (1.0, *row), strict=True))
        total += words
    found = decode_head(total, HEAD)
    assert found["one"] == len(rows)
    for column, name in enumerate(HEAD.head[1:]):
        exact = math.fsum(row[column] for row in rows)
        assert abs(found[name] - exact) <= len(rows) * 2**-25 + abs(exact) * 2**-50


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e10, -1e10])
def test_a_number_that_could_wrap_the_sum_is_refused(bad: float) -> None:
    values = {"one": 1.0, "weight": 1.0, "loss.sum": bad, "loss.count": 1.0}
    with pytest.raises(BadUpdate, match=r"loss\.sum"):
        encode_head(values, HEAD)


def test_a_head_has_exactly_its_numbers() -> None:
    with pytest.raises(BadUpdate, match="the head needs one, weight"):
        encode_head({"one": 1.0}, HEAD)
    with pytest.raises(BadUpdate, match="3 words; the spec has 4"):
        decode_head(np.zeros(3, np.uint64), HEAD)


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_a_weight_is_exactly_what_the_head_carries(examples: int, most: int) -> None:
    weight = client_weight(examples, most)
    assert 0 < weight <= 1
    assert abs(weight - min(examples, most) / most) <= 2**-24
    values = {"one": 1.0, "weight": weight, "loss.sum": 0.0, "loss.count": 0.0}
    assert decode_head(encode_head(values, HEAD), HEAD)["weight"] == weight


@pytest.mark.parametrize(("examples", "most"), [(0, 10), (-1, 10), (5, 0)])
def test_no_examples_no_weight(examples: int, most: int) -> None:
    with pytest.raises(BadUpdate, match="1 or more"):
        client_weight(examples, most)


@given(st.floats(1e-9, 1e9), st.floats(0, 1e12), st.integers(1, 1000), st.integers(0, 10**9))
def test_a_bound_grows_twofold_at_most_and_never_reaches_zero(
    bound: float, mean: float, survivors: int, dimension: int
) -> None:
    found = next_bound(bound, mean, survivors, dimension)
    assert 0 < found <= max(2 * bound, 1.01e-10 * math.sqrt(max(dimension, 1)))
    if mean == 0:
        assert found == bound
    elif mean > 1e-3 and 2 * math.sqrt(survivors) * mean < bound:
        wanted = 2 * math.sqrt(survivors) * mean
        assert wanted <= found <= max(wanted * 1.01, 1.01e-10 * math.sqrt(dimension))


@given(st.floats(1e-30, 9.9e29))
def test_norms_that_differ_in_the_last_place_give_one_bound(norm: float) -> None:
    bound = first_bound(norm)
    assert norm <= bound <= norm * 1.01
    assert math.frexp(bound)[0] * 256 == int(math.frexp(bound)[0] * 256)


def test_a_model_of_zeros_has_a_bound_and_a_broken_norm_has_none() -> None:
    assert first_bound(0.0) == 1.0
    for bad in (math.nan, math.inf, -1.0):
        with pytest.raises(BadUpdate, match="a norm of"):
            first_bound(bad)
        with pytest.raises(BadUpdate, match="a norm of"):
            next_bound(1.0, bad, 3, 10)


def test_the_rounding_key_depends_on_seed_round_client_and_model_only() -> None:
    model, other = Digest("0" * 64), Digest("1" * 64)
    keys = [
        rounding_stream(1, 2, "a", model),
        rounding_stream(2, 2, "a", model),
        rounding_stream(1, 3, "a", model),
        rounding_stream(1, 2, "b", model),
        rounding_stream(1, 2, "a", other),
        rounding_stream(b"secret of the site", 2, "a", model),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}
    assert rounding_stream(1, 2, "a", model) == keys[0]
