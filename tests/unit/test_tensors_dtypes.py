"""Element types, held against torch (which has bfloat16) and against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import BadUpdate
from unisono.tensors import DTYPES, check_finite, from_float32, to_float32

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
bits = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50)


@given(bits)
@pytest.mark.parametrize("dtype", TORCH)
def test_rounding_is_torchs_rounding_for_every_bit_pattern(dtype: str, pattern: list[int]) -> None:
    values = np.array(pattern, "<u4").view("<f4")
    ours = from_float32(values, dtype)
    theirs = torch.from_numpy(values.copy()).to(TORCH[dtype])
    raw = theirs.view(torch.uint8).numpy().tobytes()
    numbers = np.isfinite(values) | np.isinf(values)  # a NaN has many forms
    size = DTYPES[dtype].size
    for k in np.flatnonzero(numbers):
        assert ours[k * size : (k + 1) * size] == raw[k * size : (k + 1) * size], values[k]
    back = to_float32(ours, dtype)
    assert np.isnan(back[np.isnan(values)]).all()


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=50))
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_half_survives_the_way_to_float32_and_back(dtype: str, pattern: list[int]) -> None:
    raw = np.array(pattern, "<u2").tobytes()
    values = to_float32(raw, dtype)
    numbers = ~np.isnan(values)
    back = np.frombuffer(from_float32(values, dtype), "<u2")
    assert np.array_equal(back[numbers], np.array(pattern, "<u2")[numbers])
    expected = torch.frombuffer(bytearray(raw), dtype=TORCH[dtype]).float().numpy()
    assert np.array_equal(values, expected, equal_nan=True)


def test_ties_go_to_the_even_neighbour_and_too_large_becomes_infinite() -> None:
    # 1 + 2^-8 lies half way between 1 and 1 + 2^-7; 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38], np.float32)
    assert to_float32(from_float32(values, "BF16"), "BF16").tolist() == [1.0, 1 + 2**-6, np.inf]
    assert to_float32(from_float32(np.array([65520.0], np.float32), "F16"), "F16").tolist() == [np.inf]
    assert to_float32(np.array([1e300]).tobytes(), "F64").tolist() == [np.inf]


@pytest.mark.parametrize("dtype", ["I64", "BOOL", "F8", ""])
def test_only_floating_elements_travel(dtype: str) -> None:
    with pytest.raises(BadUpdate, match="cannot travel"):
        to_float32(bytes(8), dtype)
    with pytest.raises(BadUpdate, match="cannot travel"):
        from_float32(np.zeros(2, np.float32), dtype)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(bad: float) -> None:
    values = np.zeros(10, np.float32)
    check_finite(values)
    check_finite(values[:0])
    values[7] = bad
    with pytest.raises(BadUpdate, match=rf"delta: value 7 is {bad} \(1 of 10"):
        check_finite(values, "delta")
