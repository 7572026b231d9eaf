"""A site's own limits: what it sends a second, and the hours in which anything moves."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from unisono.base.clock import ManualClock
from unisono.base.errors import BadConfiguration, Unreachable
from unisono.base.ids import Digest, RunId
from unisono.client.config import Config, Network
from unisono.client.runtime.allowance import REST_SECONDS, Allowance, Resting
from unisono.client.runtime.channel import translated
from unisono.client.runtime.halt import Halt, Halted
from unisono.client.runtime.uploads import Parcel, Place, file_reader, send
from unisono.client.session import (
    Attempt,
    BackingOff,
    Busy,
    Done,
    Polling,
    Rests,
    SendingModel,
    advance,
)
from unisono.crypto import sha256_hex

RUN = RunId("r-0001")


def test_settings_of_the_line() -> None:
    config = Config.load(b'[network]\nupload_limit = "2MB/s"\nhours = "20:00-06:00"\n')
    assert config.network.rate == 2e6
    assert str(config.network.span) == "20:00-06:00"
    assert (Config().network.rate, Config().network.span) == (None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            'upload_limit = "fast"',
            '[network] upload_limit must be a rate such as "2MB/s" or "20Mbit", not "fast"',
        ),
        ("upload_limit = 2", "[network] upload_limit must be text in quotes, not 2"),
        (
            'upload_limit = "99999999999GB/s"',  # it ended the client at its first hello
            '[network] upload_limit must be at most "1000GB/s", not "99999999999GB/s"',
        ),
        ('upload_limit = "100B"', '[network] upload_limit must be at least "1kB/s", not "100B"'),
        ('hours = "20-06"', '[network] hours must be a span such as "20:00-06:00", not "20-06"'),
        ('hours = "20:00-20:00"', '[network] hours must be a span such as "20:00-06:00", not "20:00-20:00"'),
        ("hour = 1", '[network] hour is not a known key\n  line 2; did you mean "hours"?'),
    ],
)
def test_mistakes_are_named(line: str, words: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        Config.load(f"[network]\n{line}\n".encode())
    assert str(caught.value).startswith(f"client.toml: {words}")


class Waiting(Halt):
    """Time passes where somebody waits."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def waited(self, seconds: float) -> bool:
        self._clock.advance(seconds)
        return self.asked


@dataclass
class Site:
    """A site at some time of the day (UTC)."""

    network: Network
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.halt = Waiting(self.clock)
        self.allowance = Allowance(self.network, self.clock, self.halt, time.gmtime)

    def at(self, hour: float) -> "Site":
        self.clock.set_wall(self.clock.wall() + (hour * 3600 - self.clock.wall()) % 86_400)
        return self


@dataclass
class Coordinator:
    """Takes what comes; `arrived` says when how much was there."""

    clock: ManualClock
    got: bytearray = field(default_factory=bytearray)
    arrived: list[tuple[float, int]] = field(default_factory=list)
    each: Callable[[], None] = lambda: None

    def begin(self, parcel: Parcel) -> Place:
        return Place(len(self.got), complete=len(self.got) == parcel.bytes)

    def upload(self, parcel: Parcel, chunks: Iterator[tuple[int, bytes | memoryview]]) -> Place:
        for offset, data in chunks:
            assert offset == len(self.got)
            self.got += data
            self.arrived.append((self.clock.ticks(), len(self.got)))
            self.each()
        return self.begin(parcel)


def parcel(data: bytes) -> Parcel:
    return Parcel("update", Attempt(RUN, 1, 1), sha256_hex(data), len(data))


def unseen(done: int, total: int) -> None:
    assert done <= total


@pytest.fixture
def update(tmp_path: Path) -> tuple[bytes, Path]:
    data = bytes(range(250)) * 10_000
    (tmp_path / "u").write_bytes(data)
    return data, tmp_path / "u"


@pytest.mark.parametrize("limit", ["1kB/s", "100kB/s", "8Mbit"])
def test_an_upload_goes_at_the_rate_and_gives_a_sign_of_life_each_second(
    update: tuple[bytes, Path], limit: str
) -> None:
    data, file = update
    site = Site(Network(upload_limit=limit))
    began, rate = site.clock.ticks(), site.network.rate or 0.0
    coordinator = Coordinator(site.clock)
    send(coordinator, parcel(data), file_reader(file), unseen, site.allowance)
    assert bytes(coordinator.got) == data
    seconds = site.clock.ticks() - began
    assert len(data) / rate - 1.01 <= seconds <= len(data) / rate + 0.01  # a second's worth may go at once
    gaps = [b[0] - a[0] for a, b in zip(coordinator.arrived, coordinator.arrived[1:], strict=False)]
    assert max(gaps) <= 1.05


def test_an_upload_stops_with_the_hours_and_goes_on_at_that_byte(update: tuple[bytes, Path]) -> None:
    data, file = update
    site = Site(Network(hours="20:00-06:00", upload_limit="100kB/s")).at(6 - 5 / 3600)
    coordinator = Coordinator(site.clock, each=lambda: site.clock.advance(0.5))
    with pytest.raises(Resting):
        send(coordinator, parcel(data), file_reader(file), unseen, site.allowance)
    there = len(coordinator.got)
    assert 0 < there < len(data)
    with pytest.raises(Resting):
        send(coordinator, parcel(data), file_reader(file), unseen, site.allowance)
    assert len(coordinator.got) == there
    site.at(20)
    coordinator.each = lambda: None
    send(coordinator, parcel(data), file_reader(file), unseen, site.allowance)
    assert bytes(coordinator.got) == data


def test_who_is_asked_to_leave_does_not_wait_for_the_rate(update: tuple[bytes, Path]) -> None:
    data, _ = update
    site = Site(Network(upload_limit="1kB/s"))
    pieces = site.allowance.passing(data)
    next(pieces)
    next(pieces)
    site.halt.ask()
    assert list(pieces) == []


def test_a_site_says_often_enough_that_it_rests() -> None:
    site = Site(Network(hours="20:00-06:00")).at(12)
    assert site.allowance.opens_in() == pytest.approx(8 * 3600, abs=1)
    assert site.allowance.rest(60.0) == REST_SECONDS
    assert site.allowance.rest(3.0) == 1.5  # less than the plan's patience
    site.at(20 - 2 / 3600)
    assert site.allowance.rest(60.0) == pytest.approx(2, abs=1)
    assert site.at(21).allowance.rest(60.0) == 0.0
    assert Site(Network()).allowance.rest(60.0) == 0.0


def test_who_rests_asks_again_what_is_to_be_done() -> None:
    """With cursor 0, else the coordinator would say it only when it changes."""
    resting = advance(SendingModel(7, RUN, Digest("0" * 64)), Rests(10.0), 100.0)
    assert resting == BackingOff(110.0, Polling(0))
    assert advance(resting, Done(), 110.0) == Polling(0)


def test_a_busy_coordinator_is_not_given_a_handshake_besides() -> None:
    """Each poll that it refused made a new connection, when it had least time for one."""
    after = advance(Polling(7, tries=2), Busy(5.0, 0.5), 10.0)
    assert isinstance(after, BackingOff)
    assert 15.0 <= after.until <= 16.25
    assert advance(after, Done(), after.until) == Polling(7, tries=3)


@dataclass
class Buffered(Coordinator):
    """Behind a proxy that takes all at once and sends it at `rate`; after ten seconds a ping is too late."""

    rate: float = 12_000.0
    breaks: int = 0

    def upload(self, parcel: Parcel, chunks: Iterator[tuple[int, bytes | memoryview]]) -> Place:
        held = 0
        for _, data in chunks:
            held += len(data)
            if held / self.rate > 10.0:
                self.clock.advance(10.0)
                self.breaks += 1
                raise Unreachable("no answer in time", 1.0)  # what was on its way is lost
        self.clock.advance(held / self.rate)
        self.got += bytes(held)
        self.arrived.append((self.clock.ticks(), len(self.got)))
        return self.begin(parcel)


@pytest.mark.parametrize("rate", [5_000.0, 12_000.0, 100_000.0, 1e6])
def test_after_a_break_no_more_is_sent_than_is_soon_acknowledged(rate: float, tmp_path: Path) -> None:
    """gRPC's pings stand behind megabytes in a proxy: the connection was made anew every ten seconds."""
    data = bytes(2_500_000)
    (tmp_path / "u").write_bytes(data)
    site = Site(Network())
    began, coordinator = site.clock.ticks(), Buffered(site.clock, rate=rate)
    while True:
        try:
            send(coordinator, parcel(data), file_reader(tmp_path / "u"), unseen, site.allowance)
            break
        except Unreachable:
            assert coordinator.breaks < 6, len(coordinator.got)
    assert len(coordinator.got) == len(data)
    gaps = [b[0] - a[0] for a, b in pairwise(coordinator.arrived)]
    assert max(gaps, default=0.0) <= 10.0
    assert site.clock.ticks() - began < len(data) / rate + 10.0 * coordinator.breaks + 1.0


def test_a_line_that_proves_fast_is_used_whole_again() -> None:
    site = Site(Network())
    whole = site.allowance.stream()
    site.allowance.arrived(10)
    assert site.allowance.stream() == whole
    site.allowance.broke()
    for rate in (1e5, 1e6):
        count = site.allowance.stream()
        assert count <= rate * 4
        site.clock.advance(count / rate)
        site.allowance.arrived(count)
    site.allowance.stream()
    site.clock.advance(0.01)
    site.allowance.arrived(1 << 20)
    assert site.allowance.stream() == whole


def test_a_stalled_upload_is_a_lost_connection_and_no_wish_to_leave() -> None:
    """The stall guard cancels the call; its client then said goodbye and ended."""
    halt = Halt()
    with pytest.raises(Unreachable, match="nothing moved any more"), translated("c:1", halt):
        raise grpc.FutureCancelledError
    halt.ask()
    with pytest.raises(Halted), translated("c:1", halt):
        raise grpc.FutureCancelledError
    halt.close()
