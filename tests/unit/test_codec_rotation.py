"""The rotation alone: against matrices, there and back, in place, the same bits where it matters."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unisono.base.ids import Digest
from unisono.codec import Rotation, in_turn, norm, padded, rotation_stream
from unisono.codec.rotation import BLOCK, SEGMENTS
from unisono.crypto import Stream
from unisono.server.runtime.workers import at_once

KEY = b"r" * 32
PLAN = Digest("ab" * 32)
PINNED = json.loads((Path(__file__).resolve().parent.parent / "vectors" / "rotation.json").read_text())
Vector = NDArray[np.float32]
T = TypeVar("T")


def sample(size: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def hadamard(rows: int) -> NDArray[np.float64]:
    """Sylvester's matrix, of unit rows."""
    matrix = np.ones((1, 1))
    while len(matrix) < rows:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    return matrix


def slow(x: Vector, key: bytes, start: int, segments: int) -> NDArray[np.float64]:
    """The definition: signs, H_4096 in every block, H_S across segments."""
    words = np.empty(start + x.size, "<u4")
    Stream(key).fill(words)
    signed = x * np.where(words[start:] >> 31, -1.0, 1.0)
    blocks = signed.reshape(-1, BLOCK) @ hadamard(BLOCK)
    return (hadamard(segments) @ blocks.reshape(segments, -1)).ravel()


@pytest.mark.parametrize(
    ("blocks", "segments"), [(1, 1), (2, 2), (3, 2), (4, 4), (21, 16), (64, 64), (70, 64)]
)
@pytest.mark.parametrize("start", [0, 12_345])
def test_it_is_the_two_stages_of_the_definition(blocks: int, segments: int, start: int) -> None:
    x = sample(blocks * BLOCK, blocks)
    rotation, y = Rotation(KEY, x.size, start), x.copy()
    rotation.forward(y)
    assert rotation.segments == segments
    assert np.allclose(y, slow(x, KEY, start, segments), rtol=0, atol=5e-6)


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 17, 65, 130])
def test_the_inverse_gives_the_vector_back_but_for_float32(blocks: int) -> None:
    x = sample(blocks * BLOCK - 5, blocks) * np.float32(0.01)
    rotation = Rotation(KEY, x.size)
    y = np.zeros(rotation.length, np.float32)
    y[: x.size] = x
    rotation.forward(y)
    assert norm(y) == pytest.approx(norm(x), rel=1e-6)
    assert not np.allclose(y[: x.size], x, atol=1e-3)
    rotation.inverse(y)
    assert norm(y[: x.size] - x) <= 3e-7 * norm(x)
    assert float(np.abs(y[x.size :]).max()) < 1e-7


def backwards(work: Callable[[T], None], items: Iterable[T]) -> None:
    in_turn(work, reversed(list(items)))


@pytest.mark.parametrize("blocks", [1, 5, 130])
def test_the_order_of_its_pieces_does_not_change_the_bits(blocks: int) -> None:
    x = sample(blocks * BLOCK, blocks)
    one, other, many = x.copy(), x.copy(), x.copy()
    Rotation(KEY, x.size, 77).inverse(one)
    Rotation(KEY, x.size, 77).inverse(other, backwards)
    Rotation(KEY, x.size, 77).inverse(many, at_once)
    assert one.tobytes() == other.tobytes() == many.tobytes() != x.tobytes()


def test_it_is_linear_so_that_a_sum_can_be_turned_back() -> None:
    rotation = Rotation(KEY, 3 * BLOCK)
    total, plain = np.zeros(rotation.length, np.float32), np.zeros(rotation.length)
    for seed in range(5):
        x = sample(rotation.length, seed)
        plain += x
        rotation.forward(x)
        total += x
    rotation.inverse(total)
    assert np.allclose(total, plain, atol=1e-5)


def test_a_power_of_two_passes_through_exactly() -> None:
    """One loud coordinate becomes D equal ones: no rounding at all where sqrt(D) is a power of two."""
    rotation = Rotation(KEY, 64 * BLOCK)
    x = np.zeros(rotation.length, np.float32)
    x[77_777] = 512.0
    rotation.forward(x)
    assert set(np.abs(x).tolist()) == {1.0}
    rotation.inverse(x)
    assert (np.flatnonzero(x).tolist(), x[77_777]) == ([77_777], 512.0)


@pytest.mark.parametrize("loud", [1, 300, 5000, 200_000])
def test_loudness_anywhere_is_spread_over_the_whole_vector(loud: int) -> None:
    """Nine tenths of the length in a few coordinates: none ends up beyond seven standard deviations."""
    x = sample(250 * BLOCK)
    x[-loud:] *= np.float32(3 * np.sqrt(x.size / loud))
    Rotation(KEY, x.size).forward(x)
    assert float(np.abs(x).max()) * np.sqrt(x.size) < 7 * norm(x)


@settings(max_examples=20)
@given(length=st.integers(0, 10 * BLOCK * SEGMENTS))
def test_padding_is_less_than_a_block(length: int) -> None:
    assert padded(length) % BLOCK == 0
    assert 0 <= padded(length) - length < BLOCK


def test_an_empty_vector_stays_empty() -> None:
    rotation, nothing = Rotation(KEY, 0), np.zeros(0, np.float32)
    rotation.forward(nothing)
    rotation.inverse(nothing)
    assert rotation.length == 0


def test_a_file_is_rotated_in_place(tmp_path: Path) -> None:
    x = sample(6 * BLOCK)
    file = np.memmap(tmp_path / "vector", np.float32, "w+", shape=x.shape)
    file[:] = x
    rotation, expected = Rotation(KEY, x.size), x.copy()
    rotation.forward(expected)
    rotation.forward(file)
    file.flush()
    assert (tmp_path / "vector").read_bytes() == expected.tobytes()


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(BLOCK - 1, np.float32),
        np.zeros(2 * BLOCK, np.float32),
        np.zeros(BLOCK),
        np.zeros(2 * BLOCK, np.float32)[::2],
    ],
    ids=["short", "long", "float64", "with gaps"],
)
def test_another_vector_is_refused_and_left_alone(vector: Vector) -> None:
    vector += 1
    for turn in (Rotation(KEY, BLOCK).forward, Rotation(KEY, BLOCK).inverse):
        with pytest.raises(ValueError, match="rotation of float32"):
            turn(vector)
    assert np.all(vector == 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_and_warns_of_nothing(bad: float) -> None:
    x = sample(2 * BLOCK)
    x[1000] = bad
    Rotation(KEY, x.size).forward(x)
    assert not np.any(np.isfinite(x))
    assert not np.isfinite(norm(x))


@pytest.mark.parametrize("case", PINNED, ids=lambda c: c["name"])
def test_the_bits_are_the_same_on_every_machine(case: dict[str, str]) -> None:
    """Input: the keystream of `input_key` as 16-bit signed numbers, divided by 2^15.

    The inverse's always; forward's of the numbers' high bytes, whose sums float32 holds exactly.
    """
    key = rotation_stream(int(case["seed"]), int(case["round"]), Digest(case["plan"]))
    assert key.hex() == case["key"]
    raw = np.empty(int(case["coordinates"]), "<i2")
    Stream(bytes.fromhex(case["input_key"])).fill(raw)
    rotation = Rotation(key, raw.size, int(case["start"]))
    x = (raw >> 8).astype(np.float32)
    rotation.forward(x)
    assert hashlib.sha256(x.astype("<f4").tobytes()).hexdigest() == case["forward"]
    x = raw.astype(np.float32) / np.float32(2**15)
    rotation.inverse(x)
    assert hashlib.sha256(x.astype("<f4").tobytes()).hexdigest() == case["inverse"]


def test_a_client_gets_the_same_bits_again_wherever_the_vector_lies() -> None:
    """A matrix product might read an array by other instructions where it begins elsewhere."""
    x, found = sample(70 * BLOCK), set()
    for offset in (0, 1, 2, 4, 8, 15):
        place = np.empty(x.size + 16, np.float32)[offset : offset + x.size]
        place[:] = x
        Rotation(KEY, x.size).forward(place)
        found.add(hashlib.sha256(place.tobytes()).hexdigest())
    assert len(found) == 1


def test_the_key_depends_on_plan_seed_and_round() -> None:
    keys = {
        rotation_stream(1, 1, PLAN),
        rotation_stream(2, 1, PLAN),
        rotation_stream(1, 2, PLAN),
        rotation_stream(1, 1, Digest("cd" * 32)),
    }
    assert len(keys) == 4
