"""How much one stream carries, against lines of any speed whose buffers hold more than a ping waits for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.client.runtime.strides import FAST, LEAST, Strides

FIRST = 64 << 10
WAITS = 10.0  # seconds for a ping


def test_a_line_that_never_broke_carries_all_at_once() -> None:
    line = Strides(FIRST)
    line.arrived(10, 100.0)
    assert not line.bound


@given(st.floats(2_000.0, 1.9e6), st.integers(0, 5_000_000), st.floats(0.0, 0.6))
def test_after_a_break_no_ping_waits_long_and_little_is_wasted(rate: float, size: int, trip: float) -> None:
    line, place, seconds, breaks = Strides(FIRST), 0, 0.0, 0
    while place < size:
        carried = min(line.size, size - place)
        if carried / rate > WAITS:
            seconds, breaks = seconds + WAITS, breaks + 1
            line.broke()
            continue
        took = carried / rate + trip
        place, seconds = place + carried, seconds + took
        line.arrived(carried, took)
    assert breaks <= 4
    assert seconds <= 1.5 * size / rate + WAITS * breaks + 30 * trip + 1.0


def test_a_line_that_proves_fast_carries_all_again() -> None:
    line = Strides(FIRST)
    line.broke()
    assert line.size == FIRST
    line.arrived(FIRST, FIRST / FAST / 2)
    assert not line.bound


def test_breaks_halve_a_stream_and_the_least_still_moves() -> None:
    line = Strides(FIRST)
    sizes = []
    for _ in range(5):
        line.broke()
        sizes.append(line.size)
    assert sizes == [FIRST, FIRST // 2, LEAST, LEAST, LEAST]


@pytest.mark.parametrize(("count", "fitting"), [(FIRST, 48_000), (1000, FIRST)])
def test_the_end_of_a_file_says_nothing_of_the_line(count: int, fitting: int) -> None:
    line = Strides(FIRST)
    line.broke()
    line.arrived(count, count / 12_000.0)
    assert line.size == fitting
