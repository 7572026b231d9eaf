"""A model that is looked at while it arrives need not be opened again; in doubt the file is asked."""

import numpy as np
import pytest

from unisono.client.runtime.examining import Arrival
from unisono.tensors import Entry, Manifest

PLAIN = Manifest((Entry("w", (1000,), "F32", travels=True),), ())


def file_of(values: np.ndarray[tuple[int], np.dtype[np.float32]], manifest: Manifest = PLAIN) -> bytes:
    return manifest.header + values.astype("<f4").tobytes()


def arrived(data: bytes, chunk: int, manifest: Manifest = PLAIN, start: int = 0) -> Arrival:
    found = Arrival(manifest)
    for offset in range(start, len(data), chunk):
        found.take(offset, memoryview(data)[offset : offset + chunk])
    return found


@pytest.mark.parametrize("chunk", [8, 64, 1000, 1 << 20])
@pytest.mark.parametrize("place", [0, 1, 500, 999])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_seen(chunk: int, place: int, value: float) -> None:
    values = np.ones(1000, np.float32)
    assert arrived(file_of(values), chunk).finite
    values[place] = value
    assert not arrived(file_of(values), chunk).finite


def test_what_was_not_seen_from_its_start_to_its_end_proves_nothing() -> None:
    data = file_of(np.ones(1000, np.float32))
    assert not arrived(data, 64, start=64).finite
    assert not arrived(data[:-4], 64).finite
    found = arrived(data[:128], 64)
    found.take(256, data[256:])
    assert not found.finite
    found.take(0, data)  # fetched once more
    assert found.finite


def test_odd_chunks_and_other_types_are_left_to_the_file() -> None:
    data = file_of(np.ones(1000, np.float32))
    assert not arrived(data, 63).finite
    mixed = Manifest((Entry("n", (2,), "I32", travels=False), Entry("w", (1000,), "F32", travels=True)), ())
    assert not arrived(mixed.header + bytes(4008), 1 << 20, mixed).finite
