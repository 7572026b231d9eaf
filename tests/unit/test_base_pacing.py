"""Token buckets, pieces that fit a link, hours of the day: pure, with the time as an argument."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unisono.base.errors import BadConfiguration
from unisono.base.hours import DAY, Hours
from unisono.base.pacing import LEAST_PIECE, MOST_PIECE, Bucket, Pieces

AMOUNTS = st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 5)), max_size=60)


@given(AMOUNTS, st.floats(0.1, 50), st.floats(5, 100), st.sampled_from([0.0, 1e6]))
def test_never_more_than_the_burst_and_what_flowed_in(
    asked: list[tuple[float, float]], rate: float, burst: float, begin: float
) -> None:
    bucket, now, taken = Bucket(rate, burst), begin, 0.0
    for pause, amount in asked:
        now += pause
        if not bucket.spend(now, amount):
            taken += amount
        assert taken <= burst + (now - begin) * rate + 1e-6


@given(AMOUNTS, st.floats(0.1, 50))
def test_after_the_time_it_names_there_is_enough(asked: list[tuple[float, float]], rate: float) -> None:
    bucket, now = Bucket(rate, 5.0), 0.0
    for pause, amount in asked:
        now += pause
        if wait := bucket.spend(now, amount):
            now += wait * 1.0001
            assert bucket.spend(now, amount) == 0.0


@given(st.lists(st.integers(1, MOST_PIECE), min_size=1, max_size=50), st.floats(1e3, 1e7))
def test_who_owes_and_waits_goes_at_the_rate(pieces: list[int], rate: float) -> None:
    bucket, now = Bucket(rate, rate), 0.0
    for piece in pieces:
        now += bucket.owe(now, piece)
    assert sum(pieces) <= rate + now * rate + 1.0
    assert now <= sum(pieces) / rate  # and not slower than it


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(1.0, 2.0)
    assert [bucket.spend(now) for now in (10.0, 10.0, 5.0, 5.0)] == [0.0, 0.0, 1.0, 1.0]
    assert not bucket.full(10.5)
    assert bucket.full(12.0)


@given(st.binary(min_size=0, max_size=300_000), st.lists(st.floats(0, 10), min_size=1, max_size=9))
def test_pieces_are_the_whole_and_no_larger_than_allowed(data: bytes, seconds: list[float]) -> None:
    pieces, whole = Pieces(most=100_000), bytearray()
    for count, piece in enumerate(pieces.cut(data)):
        assert 0 < len(piece) <= 100_000
        whole += piece
        pieces.took(seconds[count % len(seconds)], len(piece))
    assert bytes(whole) == data


@pytest.mark.parametrize("rate", [1_500.0, 7_000.0, 50_000.0, 300_000.0])
def test_on_a_slow_link_a_piece_takes_seconds_not_minutes(rate: float) -> None:
    """56 kbit/s is 7 kB/s: a chunk of 1 MiB took 150 s, and whoever sent it was taken for dead after 60."""
    pieces, gaps = Pieces(), []
    for _ in range(8):
        for piece in pieces.cut(bytes(MOST_PIECE // 4)):
            gaps.append(len(piece) / rate)
            pieces.took(gaps[-1], len(piece))
    assert max(gaps) < 45
    assert max(gaps[8:]) <= 4.0


def test_what_a_buffer_swallows_says_nothing_about_the_link() -> None:
    """Two megabytes vanish into windows and kernels at once; a piece of 1 MiB behind them takes minutes."""
    pieces, buffered, gaps = Pieces(size=128 << 10, blind=8 << 20), 4 << 20, []
    for _ in range(10):
        for piece in pieces.cut(bytes(MOST_PIECE)):
            took = 0.0 if buffered > 0 else len(piece) / 7_000
            buffered -= len(piece)
            gaps.append(len(piece) / 7_000)  # what the other side sees
            pieces.took(took, len(piece))
    assert max(gaps) < 20
    quick = Pieces(size=128 << 10, blind=8 << 20)
    sizes = []
    for _ in range(12):
        for piece in quick.cut(bytes(MOST_PIECE)):
            sizes.append(len(piece))
            quick.took(0.001, len(piece))
    assert sizes[:64] == [128 << 10] * 64
    assert sizes[-2:] == [MOST_PIECE] * 2


def test_an_acknowledgement_says_at_once_what_buffers_hide() -> None:
    pieces = Pieces(size=128 << 10, blind=8 << 20)
    assert len(list(pieces.cut(bytes(MOST_PIECE)))) == 8
    pieces.trust()
    assert len(list(pieces.cut(bytes(MOST_PIECE)))) == 1


@given(st.integers(1000, 2 * MOST_PIECE), st.lists(st.sampled_from([0.1, 1.0, 3.0])))
@example(524_000, [])  # 2 x 524 000 and a rest of 576
def test_no_rate_leaves_small_rests(rate: int, seconds: list[float]) -> None:
    """A coordinator refuses an upload of more than 64 chunks below 1 KiB: one in each MiB were too many."""
    pieces = Pieces(rate)
    for took in seconds:
        pieces.took(took, pieces.size)
    assert min(map(len, pieces.cut(bytes(MOST_PIECE)))) >= LEAST_PIECE


def test_on_a_fast_link_pieces_are_whole_chunks_which_are_not_copied() -> None:
    pieces, chunk = Pieces(), bytes(MOST_PIECE)
    for _ in range(2):
        for piece in pieces.cut(chunk):
            pieces.took(0.001, len(piece))
    (only,) = pieces.cut(chunk)
    assert only is chunk


def test_no_link_makes_pieces_of_nothing() -> None:
    pieces = Pieces(most=10)
    for _ in range(50):
        pieces.took(100.0, 1)
    assert pieces.size == LEAST_PIECE


@pytest.mark.parametrize(
    ("text", "inside", "outside", "opens"),
    [
        ("20:00-06:00", (1200, 1439, 0, 359.9), (360, 719, 1199.9), 8 * 3600.0),
        ("08:30-17:00", (510, 720, 1019), (509, 1020, 0), 0.0),
        ("00:00-23:59", (0, 1438), (1439,), 0.0),
    ],
)
def test_hours(text: str, inside: tuple[float, ...], outside: tuple[float, ...], opens: float) -> None:
    hours = Hours.parse(text)
    assert str(hours) == text
    assert all(hours.holds(minute) for minute in inside)
    assert not any(hours.holds(minute) for minute in outside)
    assert hours.opens_in(12 * 3600.0) == opens


@given(st.integers(0, 1439), st.integers(0, 1439), st.floats(0, DAY - 1))
def test_the_hours_begin_when_they_are_said_to(start: int, end: int, second: float) -> None:
    if start == end:
        return
    hours = Hours(start, end)
    left = hours.opens_in(second)
    assert 0 <= left < DAY
    assert hours.holds(round((second + left) % DAY, 6) / 60) or left == 0.0
    assert (left == 0.0) == hours.holds(second / 60)


@pytest.mark.parametrize(
    "text", ["", "20-06", "24:00-06:00", "20:00-20:00", "20:00 - 06:00", "2\uff10:00-06:00"]
)
def test_no_hours(text: str) -> None:
    with pytest.raises(BadConfiguration, match="must be a span such as"):
        Hours.parse(text)
