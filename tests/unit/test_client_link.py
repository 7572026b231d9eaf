"""Calls on a channel that was closed because the client is about to end."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from unisono.base.clock import ManualClock
from unisono.base.ids import Digest, RunId
from unisono.client.runtime import link
from unisono.client.runtime.channel import OPTIONS, Credentials, translated
from unisono.client.runtime.halt import Halt, Halted
from unisono.client.runtime.link import Capabilities, Link
from unisono.client.runtime.uploads import Parcel
from unisono.client.session import Attempt
from unisono.wire.chunks import SERVICE, decode
from unisono.wire.v1.transfer_pb2 import DownloadRequest, UploadReply

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


def test_after_an_upload_the_coordinator_may_ask_for_a_new_connection(
    halt: Halt, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And hears the next call on it: what the old one made it hold is free."""
    peers: list[str] = []

    def upload(pieces: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        peers.append(context.peer())
        chunks = [decode(piece).offset for piece in pieces]
        return UploadReply(offset=3, complete=True, reconnect=len(chunks) == 2).SerializeToString()

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(upload)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Upload": handler}),))
        address = f"localhost:{server.add_insecure_port('localhost:0')}"
        server.start()
        monkeypatch.setattr(
            link, "open_channel", lambda _, there, __: grpc.insecure_channel(there, options=OPTIONS)
        )
        side = Link(lambda: Credentials(b"", b"", b""), address, Capabilities((), (), ()), clock, halt)
        side.open()
        for chunks in ([(0, b"abc")], [(0, b"a"), (1, b"bc")], [(0, b"abc")]):
            assert side.upload(PARCEL, iter(chunks)).complete
        side.close()
        server.stop(None).wait()
    assert peers[0] == peers[1] != peers[2]
