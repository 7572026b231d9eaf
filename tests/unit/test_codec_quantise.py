"""Quantising and packing, against an obvious oracle in Python integers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate
from unisono.codec import (
    ALIGNMENT,
    CHUNK,
    LANES,
    Decoder,
    Encoder,
    Spec,
    SpecPart,
    check_lanes,
    decode_part,
    encode_part,
    per_word,
)

Words = NDArray[np.uint64]
widths = pytest.mark.parametrize("width", LANES)


def spec_of(width: int, clients: int, length: int, bound: float = 1.0) -> tuple[Spec, SpecPart]:
    part = SpecPart("delta", length, bound, weighted=True)
    return Spec(width, clients, (part,), ()), part


def encoded(spec: Spec, x: NDArray[np.float32], u: NDArray[np.uint32], weight: float = 1.0) -> Words:
    out = np.full(spec.words, 2**64 - 1, np.uint64)  # so that what is not written shows
    Encoder(spec, spec.parts[0], weight).encode(x, u, out)
    return out


def lanes_of(words: Words, width: int) -> list[int]:
    """Every lane of every word, the slow way."""
    mask = (1 << width) - 1
    return [int(word) >> (k * width) & mask for word in words for k in range(per_word(width))]


def slow_levels(spec: Spec, x: NDArray[np.float32], u: NDArray[np.uint32], weight: float) -> list[int]:
    """floor(x Q / bound + u), clamped as an integer."""
    q, factor = spec.levels, weight * (spec.levels / spec.parts[0].bound)
    found = (math.floor(float(a) * factor + int(r) / 2**32) for a, r in zip(x, u, strict=True))
    return [max(-q, min(q, level)) for level in found]


coordinates = st.floats(-2, 2, width=32)
vectors = st.lists(st.tuples(coordinates, st.integers(0, 2**32 - 1)), max_size=40)


@widths
@given(
    uploads=st.lists(vectors, min_size=1, max_size=6), spare=st.integers(0, 3), weight=st.floats(2**-24, 1)
)
def test_the_sum_of_words_is_the_sum_of_integers(
    width: int, uploads: list[list[tuple[float, int]]], spare: int, weight: float
) -> None:
    length = min(map(len, uploads))
    spec, part = spec_of(width, len(uploads) + spare, length)
    total, expected = np.zeros(spec.words, np.uint64), [0] * length
    for upload in uploads:
        x = np.array([a for a, _ in upload[:length]], np.float32)
        u = np.array([r for _, r in upload[:length]], np.uint32)
        words = encoded(spec, x, u, weight)
        levels = slow_levels(spec, x, u, weight)
        assert lanes_of(words, width)[:length] == [level + spec.levels for level in levels]
        total += words
        expected = [a + b for a, b in zip(expected, levels, strict=True)]
    n, out = len(uploads), np.empty(length)
    lanes = lanes_of(total, width)
    assert [lane - n * spec.levels for lane in lanes[:length]] == expected
    assert set(lanes[length:]) <= {0}
    check_lanes(spec, part, total, n, length)
    decode_part(spec, part, total, n, out)
    assert np.allclose(out, np.array(expected) * (part.bound / spec.levels), rtol=1e-12, atol=0)


@widths
@pytest.mark.parametrize("clients", [1, 2, 3, 16, 100])
def test_no_lane_carries_at_the_extremes(width: int, clients: int) -> None:
    length = 2 * ALIGNMENT + 7
    spec, part = spec_of(width, clients, length, bound=0.3)
    x = np.resize(np.array([1, -1, -1], np.float32), length) * np.float32(1e30)
    u = np.full(length, 2**32 - 1, np.uint32)
    total = np.zeros(spec.words, np.uint64)
    for _ in range(clients):
        total += encoded(spec, x, u)
    full = 2 * clients * spec.levels
    assert full + 1 <= 2**width
    assert lanes_of(total, width)[:length] == [full if a > 0 else 0 for a in x]
    check_lanes(spec, part, total, clients, length)
    if width * per_word(width) < 64:
        assert int(total.max()) >> (width * per_word(width)) == 0


@widths
def test_at_the_bound_the_largest_random_word_does_not_round_past_q(width: int) -> None:
    """Q + (1 - 2^-32) may round up to Q + 1 in floating point: the clamp comes after (reference 5.1)."""
    spec, _ = spec_of(width, 1, 3, bound=0.1)
    x = np.array([0.1, np.nextafter(np.float32(0.1), np.float32(1)), -0.1], np.float32)
    words = encoded(spec, x, np.full(3, 2**32 - 1, np.uint32))
    assert max(lanes_of(words, width)) <= 2 * spec.levels


@widths
def test_rounding_has_no_bias_and_errs_by_less_than_one_level(width: int) -> None:
    rng = np.random.default_rng(width)
    count = 60_000
    spec, _ = spec_of(width, 16, count)
    x = np.repeat(rng.uniform(-1, 1, 6).astype(np.float32), count // 6)
    words = encoded(spec, x, rng.integers(0, 2**32, count, np.uint32))
    out = np.empty(count)
    Decoder(spec, spec.parts[0], 1).decode(words, out)
    errors = (out - x).reshape(6, -1) * spec.levels
    assert np.abs(errors).max() < 1 + 1e-6
    # the error of one coordinate has at most deviation 1/2; five deviations of the mean of 10 000
    assert np.abs(errors.mean(axis=1)).max() < 5 * 0.5 / math.sqrt(count / 6)


@widths
def test_chunks_are_slices_of_the_whole(width: int) -> None:
    assert CHUNK % ALIGNMENT == 0
    assert (1 << 20) - 4 * ALIGNMENT < 4 * CHUNK <= 1 << 20
    rng = np.random.default_rng(0)
    length = 40 * ALIGNMENT + 11  # more than one block of scratch memory
    spec, part = spec_of(width, 4, length)
    x = rng.uniform(-1, 1, length).astype(np.float32)
    u = rng.integers(0, 2**32, length, np.uint32)
    whole, cut, out = encoded(spec, x, u), np.zeros(spec.words, np.uint64), np.zeros(length, np.float32)
    for start in range(0, length, 7 * ALIGNMENT):
        stop = min(start + 7 * ALIGNMENT, length)
        first, count = spec.word_range("delta", start, stop)
        encode_part(spec, part, x[start:stop], u[start:stop], cut[first : first + count])
        decode_part(spec, part, cut[first : first + count], 1, out[start:stop])
    assert np.array_equal(whole, cut)
    assert lanes_of(whole, width)[:length] == [level + spec.levels for level in slow_levels(spec, x, u, 1.0)]
    assert np.abs(out - x).max() <= 1.01 / spec.levels + 1e-7


def test_a_mean_is_one_multiplication() -> None:
    spec, part = spec_of(32, 2, 2)
    words = encoded(spec, np.array([0.5, -0.25], np.float32), np.zeros(2, np.uint32), weight=0.5)
    out = np.empty(2, np.float32)
    Decoder(spec, part, 1, divisor=0.5).decode(words, out)
    assert np.allclose(out, [0.5, -0.25], atol=1e-8)


@widths
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused(width: int, bad: float) -> None:
    spec, _ = spec_of(width, 3, 50)
    x = np.zeros(50, np.float32)
    x[33] = bad
    with pytest.raises(BadUpdate, match=f'part "delta" of the update: value 33 is {bad}'):
        encoded(spec, x, np.zeros(50, np.uint32))


@widths
def test_the_alarm_hears_a_wrong_sum(width: int) -> None:
    count = per_word(width)
    length = 2 * count - 1  # one lane of the last word is unused
    spec, part = spec_of(width, 3, length)
    good = sum(encoded(spec, np.ones(length, np.float32), np.zeros(length, np.uint32)) for _ in range(2))
    assert isinstance(good, np.ndarray)
    check_lanes(spec, part, good, 2, length)
    check_lanes(spec, part, good[:0], 2, 0)
    with pytest.raises(BadUpdate, match="is wrong"):
        check_lanes(spec, part, good, 1, length)  # more than one client can reach
    for word, bit in [(1, (count - 1) * width), (0, count * width), (1, 63)]:
        if bit < 64:
            wrong = good.copy()
            wrong[word] |= np.uint64(1 << bit)
            with pytest.raises(BadUpdate, match="is wrong"):
                check_lanes(spec, part, wrong, 2, length)


def test_more_survivors_than_clients_are_refused() -> None:
    spec, part = spec_of(32, 3, 2)
    for survivors in (0, 4):
        with pytest.raises(BadUpdate, match=f"{survivors} survivors"):
            check_lanes(spec, part, np.zeros(1, np.uint64), survivors)
        with pytest.raises(BadUpdate, match=f"{survivors} survivors"):
            Decoder(spec, part, survivors)


def test_sizes_that_do_not_fit_are_our_own_mistake() -> None:
    spec, part = spec_of(32, 3, 4)
    x, u, out = np.zeros(4, np.float32), np.zeros(4, np.uint32), np.zeros(2, np.uint64)
    for wrong in [(x, u[:3], out), (x, u, out[:1]), (x[:2], u[:2], out)]:
        with pytest.raises(ValueError, match="random words"):
            encode_part(spec, part, *wrong)
    with pytest.raises(ValueError, match="2 words for 2 coordinates"):
        decode_part(spec, part, out, 1, x[:2])
    with pytest.raises(ValueError, match="does not begin a word"):
        spec.word_range("delta", 1, 2)
    with pytest.raises(BadUpdate, match="weight 0"):
        Encoder(spec, part, 0)
