"""Calls on a channel that was closed because the client is about to end."""

from collections.abc import Callable, Iterator

import grpc
import pytest

from unisono.base.clock import ManualClock
from unisono.base.ids import Digest, RunId
from unisono.client.runtime import link
from unisono.client.runtime.channel import Credentials, translated
from unisono.client.runtime.halt import Halt, Halted
from unisono.client.runtime.link import Capabilities, Link
from unisono.client.runtime.uploads import Parcel
from unisono.client.session import Attempt
from unisono.wire.v1.transfer_pb2 import DownloadRequest

DIGEST = Digest("ab" * 32)
PARCEL = Parcel("update", Attempt(RunId("r-0001"), 1, 0), DIGEST, 3)
CALLS: list[Callable[[Link], object]] = [
    lambda side: side.poll(0, 1.0),
    lambda side: side.begin(PARCEL),
    lambda side: side.download(DIGEST, 0, lambda offset, data: None),
    lambda side: side.upload(PARCEL, iter([(0, b"abc")])),
]


@pytest.fixture
def halt() -> Iterator[Halt]:
    made = Halt()
    yield made
    made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def side(halt: Halt, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Link:
    """A client's end whose channel is closed: `halt` does that to the call before, at any moment."""
    channel = grpc.insecure_channel("localhost:1")
    monkeypatch.setattr(link, "open_channel", lambda *_: channel)
    made = Link(lambda: Credentials(b"", b"", b""), "localhost:1", Capabilities((), (), ()), clock, halt)
    made.open()
    channel.close()
    return made


@pytest.mark.parametrize("call", CALLS, ids=["poll", "begin", "download", "upload"])
def test_no_call_begins_once_the_end_was_asked_for(
    side: Link, halt: Halt, call: Callable[[Link], object]
) -> None:
    halt.ask()
    with pytest.raises(Halted):
        call(side)


@pytest.mark.parametrize("call", CALLS, ids=["poll", "begin", "download", "upload"])
def test_a_channel_that_we_closed_ourselves_is_a_fault(side: Link, call: Callable[[Link], object]) -> None:
    with pytest.raises(ValueError, match="losed"):
        call(side)


def test_a_call_that_finds_its_channel_closed_by_the_end_is_ended_by_it(side: Link, halt: Halt) -> None:
    def asked_between() -> None:
        with translated("localhost:1", halt), halt.cancelling(lambda: None):
            halt.ask()
            raise ValueError("Cannot invoke RPC on closed channel!")

    with pytest.raises(Halted):
        asked_between()


@pytest.mark.parametrize(("waited", "took", "bound"), [(60.0, 0.01, False), (0.0, 60.0, True)])
def test_a_turn_that_was_long_waited_for_is_no_slow_line(
    side: Link, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, waited: float, took: float, bound: bool
) -> None:
    got = list[int]()

    def stream(request: DownloadRequest, take: Callable[[int, bytes | memoryview], None]) -> None:
        clock.advance(waited)
        take(request.offset, b"")
        clock.advance(took)
        take(request.offset, bytes(request.length))

    monkeypatch.setattr(side, "_stream", stream)
    side._strides.broke()
    side.download(DIGEST, 7, lambda offset, data: got.append(len(data)))
    assert got == [link.FIRST_STREAM]
    assert side._strides.bound == bound
