"""Durations, sizes and rates: what people write is what they get back."""

import pytest

from unisono.base.errors import BadConfiguration
from unisono.base.units import bytes_per_second, seconds, show_bytes, show_seconds

ENDLESS = "9" * 308  # finite, and not so in seconds or bits


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("1.5d", 129_600)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "90", "s", "-1h", "0s", "1w", "1 h 2 m", "1e3s", "9" * 400 + "s", ENDLESS + "d"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(BadConfiguration, match="is not a duration; write for example"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("20Mbit", 2_500_000), ("2MB/s", 2_000_000), ("8kbit", 1000), ("1GB", 1e9)]
)
def test_rates(text: str, expected: float) -> None:
    assert bytes_per_second(text) == expected


@pytest.mark.parametrize(
    "text", ["fast", "20", "0Mbit", "20mbit", "20Mbit/h", "9" * 400 + "B", ENDLESS + "GB"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(BadConfiguration, match="is not a rate; write for example"):
        bytes_per_second(text)


def test_a_long_or_strange_text_is_shown_in_a_line() -> None:
    with pytest.raises(BadConfiguration) as caught:
        bytes_per_second("2MB\x1b" + "-" * 5000)
    assert str(caught.value) == f'"2MB?{"-" * 36}..." is not a rate; write for example 20Mbit or 2MB/s'


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (2100, "2.1 kB"),
        (25_000_000, "25.0 MB"),
        (512e6, "512 MB"),
        (3.2e12, "3200 GB"),
    ],
)
def test_sizes_for_people(count: float, shown: str) -> None:
    assert show_bytes(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0.1, "0.10 s"),
        (0.214, "0.21 s"),
        (1.44, "1.4 s"),
        (14, "14 s"),
        (72, "1 m 12 s"),
        (11_100, "3 h 5 m"),
    ],
)
def test_durations_for_people(count: float, shown: str) -> None:
    assert show_seconds(count) == shown
