"""Clients to sum to mean, rotated: the error at each lane width, the clip, the lanes' ends, the spec."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unisono.base.errors import BadMessage, BadUpdate
from unisono.base.ids import Digest
from unisono.codec import (
    Decoder,
    Encoder,
    Rotation,
    Spec,
    SpecPart,
    bytes_per_parameter,
    check_lanes,
    choose_lanes,
    clipped_weight,
    expected_error,
    next_bound,
    norm,
    padded,
    per_word,
    rounding_stream,
)
from unisono.codec.widths import KAPPA
from unisono.crypto import Stream, sha256_hex

KEY, MODEL = b"r" * 32, Digest("ef" * 32)
N, D = 16, 1 << 18
Vector = NDArray[np.float32]
Words = NDArray[np.uint64]


def spec_of(width: int, clients: int, length: int, bound: float) -> Spec:
    return Spec(width, clients, (SpecPart("delta", length, bound, weighted=True),), (), "hadamard")


def upload(spec: Spec, x: Vector, client: str = "a", weight: float = 1.0) -> Words:
    """What a client does: pad, rotate, clip, encode."""
    part = spec.parts[0]
    vector = np.zeros(spec.coordinates(part), np.float32)
    vector[: x.size] = x
    Rotation(KEY, part.length).forward(vector)
    return encoded(spec, vector, client, weight)


def encoded(spec: Spec, rotated: Vector, client: str = "a", weight: float = 1.0) -> Words:
    part = spec.parts[0]
    random, words = np.empty(rotated.size, "<u4"), np.full(spec.words, 2**64 - 1, np.uint64)
    Stream(rounding_stream(1, 1, client, MODEL)).fill(random)
    weight = clipped_weight(weight, norm(rotated), part.bound)
    Encoder(spec, part, weight).encode(rotated, random, words)
    return words


def decoded(spec: Spec, total: Words, survivors: int, divisor: float = 1.0) -> Vector:
    """What the coordinator does: check, decode, turn back."""
    part = spec.parts[0]
    vector = np.empty(spec.coordinates(part), np.float32)
    check_lanes(spec, part, total, survivors, vector.size)
    Decoder(spec, part, survivors, divisor).decode(total, vector)
    Rotation(KEY, part.length).inverse(vector)
    return vector[: part.length]


def draw(kind: str, rng: np.random.Generator) -> Vector:
    match kind:
        case "gaussian":
            return rng.standard_normal(D, dtype=np.float32)
        case "layered":  # 64 layers whose scales differ by up to a thousand
            scales = np.repeat(10 ** np.random.default_rng(5).uniform(-3, 0, 64), D // 64)
            return (rng.standard_normal(D) * scales).astype(np.float32)
        case "loud head":  # a third of the length in the last 600 coordinates
            x = rng.standard_normal(D, dtype=np.float32)
            x[-600:] *= 15
            return x
    return rng.standard_t(2.5, D).astype(np.float32)


@dataclass(frozen=True)
class Cohort:
    rotated: list[Vector]
    mean: NDArray[np.float64]


@cache
def cohort(kind: str) -> Cohort:
    rng, rotation, mean, rotated = np.random.default_rng(1), Rotation(KEY, D), np.zeros(D), []
    for _ in range(N):
        x = draw(kind, rng)
        mean += x / N
        rotation.forward(x)
        rotated.append(x)
    return Cohort(rotated, mean)


@pytest.mark.parametrize(("width", "most"), [(12, 3e-4), (16, 3e-6), (21, 3e-9)])
@pytest.mark.parametrize("kind", ["gaussian", "layered", "heavy-tailed", "loud head"])
def test_error_of_the_mean_of_16_clients(kind: str, width: int, most: float) -> None:
    """Issue 4's table, with the bound that the rule gives once it has seen such a sum."""
    made = cohort(kind)
    length = float(np.linalg.norm(made.mean))
    spec = spec_of(width, N, D, next_bound(1e9, length, N, D))
    total = np.zeros(spec.words, np.uint64)
    for k, rotated in enumerate(made.rotated):
        total += encoded(spec, rotated, f"client-{k}")
    mean = decoded(spec, total, N, divisor=N)
    error = float(np.sum((mean - made.mean) ** 2)) / length**2
    assert error <= most
    assert 0.8 * expected_error(width, N) < error < 1.1 * expected_error(width, N)


def test_weights_and_drop_outs_give_the_weighted_mean_of_the_survivors() -> None:
    rng, weights = np.random.default_rng(2), [1.0, 0.25, 2**-24, 0.6]
    length = 10_007
    updates = [rng.standard_normal(length, dtype=np.float32) for _ in weights]
    spec = spec_of(21, 9, length, bound=300.0)
    total = np.zeros(spec.words, np.uint64)
    for k, (x, weight) in enumerate(zip(updates, weights, strict=True)):
        total += upload(spec, x, f"client-{k}", weight)
    mean = decoded(spec, total, len(weights), sum(weights))
    expected = np.average(np.array(updates, np.float64), axis=0, weights=weights)
    assert np.linalg.norm(mean - expected) < 1e-3 * np.linalg.norm(expected)


def test_a_longer_vector_is_clipped_to_the_bound_and_keeps_its_direction() -> None:
    x = np.random.default_rng(3).standard_normal(D, dtype=np.float32)
    bound = norm(x) / 50
    spec = spec_of(21, 3, D, bound)
    found = decoded(spec, upload(spec, x), 1)
    assert norm(found) == pytest.approx(bound, rel=1e-3)
    assert float(np.dot(found, x)) / (norm(found) * norm(x)) > 0.9999


lengths = st.floats(1e-20, 1e25)


@given(weight=st.floats(2**-24, 1), length=lengths, bound=lengths)
def test_the_clip_never_exceeds_bound_or_weight_and_wastes_nothing(
    weight: float, length: float, bound: float
) -> None:
    found = clipped_weight(weight, length, bound)
    assert 0 < found <= weight
    assert found * length <= bound * (1 + 1e-15)
    assert found == weight or found * length >= bound * (1 - 2**-23)


@pytest.mark.parametrize("length", [float("nan"), float("inf")])
def test_a_vector_without_a_length_is_refused(length: float) -> None:
    with pytest.raises(BadUpdate, match="norm of"):
        clipped_weight(1.0, length, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_encoder_refuses_what_the_rotation_spread(bad: float) -> None:
    x = np.zeros(5000, np.float32)
    x[17] = bad
    part = SpecPart("delta", 5000, 1.0, weighted=False)
    spec = Spec(12, 3, (part,), (), "hadamard")
    vector = np.zeros(padded(5000), np.float32)
    vector[:5000] = x
    Rotation(KEY, 5000).forward(vector)
    with pytest.raises(BadUpdate, match="delta"):
        Encoder(spec, part).encode(vector, np.zeros(vector.size, np.uint32), np.zeros(spec.words, np.uint64))


@pytest.mark.parametrize("width", KAPPA)
@pytest.mark.parametrize("clients", [3, 16, 100])
def test_no_lane_carries_and_the_lanes_after_the_last_coordinate_are_zero(width: int, clients: int) -> None:
    """Every client sends the largest value in every lane, far beyond reach, rounded up."""
    length = 2 * 4096  # 8192 = 5 * 1638 + 2 = 3 * 2730 + 2: the last word is part empty
    spec = spec_of(width, clients, length - 3, bound=0.25)
    part, lanes = spec.parts[0], per_word(width)
    x = np.where(np.arange(length) % 3, 1e30, -1e30).astype(np.float32)
    words, total = np.full(spec.words, 2**64 - 1, np.uint64), np.zeros(spec.words, np.uint64)
    Encoder(spec, part).encode(x, np.full(x.size, 2**32 - 1, np.uint32), words)
    for _ in range(clients):
        total += words
    check_lanes(spec, part, total, clients, x.size)
    bits = [int(total[k // lanes]) >> (k % lanes * width) & ((1 << width) - 1) for k in range(x.size)]
    assert bits == [2 * clients * spec.levels if a > 0 else 0 for a in x]
    assert int(total[-1]) >> (width * ((x.size - 1) % lanes + 1)) == 0


@pytest.mark.parametrize(
    ("clients", "first", "width"),
    [(3, False, 12), (16, False, 12), (17, False, 16), (100, False, 16), (101, False, 21), (3, True, 21)],
)
def test_automatic_lane_width(clients: int, first: bool, width: int) -> None:
    assert choose_lanes(clients, first=first) == width
    assert expected_error(width, clients) < 3e-4


def test_expected_error_and_size_of_an_upload() -> None:
    assert {w: bytes_per_parameter(w) for w in KAPPA} == {12: 1.6, 16: 2.0, 21: 8 / 3}
    assert expected_error(12, 16) == pytest.approx(4 * 2.5**2 / (6 * 127**2))
    assert expected_error(12, 5000) == float("inf")
    spec = spec_of(12, 16, 6_250_000, 1.0)
    assert spec.bytes <= 1.6 * 6_250_000 * 1.01


PART, OTHER = SpecPart("delta", 5000, 2.0, True), SpecPart("control", 1, 3.0, False)


def test_a_rotated_spec_survives_its_bytes_and_counts_padded_coordinates() -> None:
    spec = Spec(16, 8, (PART, OTHER), ("one",), "hadamard")
    assert Spec.decode(spec.encode()) == spec
    assert (spec.coordinates(PART), spec.coordinates(OTHER)) == (8192, 4096)
    assert (spec.start("control"), spec.offset("control"), spec.head_offset) == (8192, 2048, 3072)
    assert spec.reach(PART) == 4.0 * 2.0 / np.sqrt(8192)
    assert spec.digest != Spec(16, 8, (PART, OTHER), ("one",)).digest


def test_without_rotation_nothing_changed() -> None:
    """Spec, upload and sum of `sealed` are byte for byte what they were before there was rotation."""
    spec = Spec(32, 2, (PART,), ("one", "weight"))
    assert spec.encode() == (
        b'{"format":"unisono/spec/1","lanes":32,"clients":2,"parts":[["delta",5000,2.0,true]],'
        b'"head":["one","weight"],"rotation":"none"}'
    )
    raw, random = np.empty(5000, "<i2"), np.empty(5000, "<u4")
    Stream(b"i" * 32).fill(raw)
    Stream(b"u" * 32).fill(random)
    words, out = np.zeros(2500, np.uint64), np.zeros(5000, np.float32)
    Encoder(spec, PART, 0.75).encode(raw.astype(np.float32) / np.float32(2**14), random, words)
    Decoder(spec, PART, 1, 0.75).decode(words, out)
    assert sha256_hex(words) == "f00300f7cd9fb7e3ea22048a1141fd529681cde0e23a2c2db31ecad3ddf3e5c7"
    assert sha256_hex(out) == "3a2e18ff4622bfc198a5d88994c84afad7e1681d5ff16b51f5f13e4a081e24f1"
    assert (spec.coordinates(PART), spec.reach(PART), spec.words) == (5000, 2.0, 2502)


def test_a_rotation_that_is_not_known_or_does_not_fit_is_refused() -> None:
    with pytest.raises(BadMessage, match="rotated vector in lanes of 32 bits"):
        Spec(32, 2, (PART,), (), "hadamard")
    for other in (b'"three-stage"', b"null", b'"None"'):
        data = Spec(16, 2, (PART,), ()).encode().replace(b'"none"', other)
        with pytest.raises(BadMessage, match=r"rotation|not a spec"):
            Spec.decode(data)
