"""Element types of a model, and their way to float32 and back.

NumPy has no bfloat16.  A bfloat16 is the upper half of a float32, so the way there is a shift and the
way back is rounding to nearest, ties to even, done on the bits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Dtype:
    """An element type: its safetensors name, size, whether it may travel, and how NumPy stores it."""

    name: str
    size: int
    floating: bool
    storage: str  # little-endian NumPy type; bfloat16 is stored as its bits


# In the order of the reference writer: larger elements first, so that all are aligned; the position
# decides the order of tensors in a file.
DTYPES = {
    d.name: d
    for d in (
        Dtype("I64", 8, False, "<i8"),
        Dtype("F64", 8, True, "<f8"),
        Dtype("F32", 4, True, "<f4"),
        Dtype("I32", 4, False, "<i4"),
        Dtype("BF16", 2, True, "<u2"),
        Dtype("F16", 2, True, "<f2"),
        Dtype("I16", 2, False, "<i2"),
        Dtype("I8", 1, False, "|i1"),
        Dtype("U8", 1, False, "|u1"),
        Dtype("BOOL", 1, False, "|b1"),
    )
}
RANK = {name: position for position, name in enumerate(DTYPES)}


def to_float32(raw: Bytes, dtype: str) -> NDArray[np.float32]:
    """Return the little-endian elements of `raw` as float32; float64 is rounded, and may become infinite.

    For F32 the result is a read-only view of `raw`.  Raises BadUpdate for a type that cannot travel.
    """
    stored = np.frombuffer(raw, _floating(dtype).storage)
    if dtype == "BF16":
        wide = stored.astype("<u4")
        wide <<= np.uint32(16)
        return wide.view("<f4")
    with np.errstate(over="ignore"):
        return stored.astype("<f4", copy=False)


def from_float32(values: NDArray[np.float32], dtype: str) -> bytes:
    """Return float32 `values` as little-endian elements of `dtype`, rounded to nearest, ties to even.

    Values too large for float16 or bfloat16 become infinite: `check_finite` what comes back.
    """
    storage = _floating(dtype).storage
    if dtype == "BF16":
        return _bfloat16(values).tobytes()
    with np.errstate(over="ignore"):
        return values.astype(storage, copy=False).tobytes()


def check_finite(values: NDArray[np.floating], what: str = "update") -> None:
    """Raise BadUpdate, naming the first place, if a value is NaN or infinite."""
    fine = np.isfinite(values)
    if not fine.all():
        place = int(np.argmin(fine.reshape(-1)))
        count = fine.size - int(np.count_nonzero(fine))
        raise BadUpdate(
            f"{what}: value {place} is {values.reshape(-1)[place]} ({count} of {fine.size} are not finite)"
        )


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    # half of the last place kept, minus one unless it is odd: ties go to the even neighbour
    rounded = (bits >> np.uint32(16)) & np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    kept: NDArray[np.uint16] = rounded.astype("<u2")
    kept[np.isnan(values)] = 0x7FC0  # a NaN's payload could round up to infinity or minus zero
    return kept


def _floating(dtype: str) -> Dtype:
    found = DTYPES.get(dtype)
    if found is None or not found.floating:
        raise BadUpdate(f"elements of type {dtype} cannot travel; only F64, F32, F16 and BF16 can")
    return found
