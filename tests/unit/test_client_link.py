"""Calls on a channel that was closed because the client is about to end."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import grpc
import pytest

from unisono.base.clock import ManualClock
from unisono.base.errors import BadConfiguration, Unavailable
from unisono.base.ids import Digest, RunId
from unisono.client.runtime import link
from unisono.client.runtime.channel import OPTIONS, Credentials, translated
from unisono.client.runtime.halt import Halt, Halted
from unisono.client.runtime.link import Capabilities, Link
from unisono.client.runtime.uploads import CHUNK, Parcel
from unisono.client.session import Attempt
from unisono.wire.chunks import SERVICE, decode
from unisono.wire.v1.transfer_pb2 import BeginReply, DownloadRequest, UploadReply

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


@dataclass
class Coordinator:
    """Answers uploads as it is told, and notes what was asked of it and over which connection."""

    reply: UploadReply = field(default_factory=lambda: UploadReply(offset=3, complete=True))
    peers: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    full: bool = False

    def upload(self, pieces: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self.calls.append("upload")
        self.peers.append(context.peer())
        assert sum(len(decode(piece).data) for piece in pieces) == 3
        if self.full:
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return self.reply.SerializeToString()

    def begin(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls.append("begin")
        return BeginReply().SerializeToString()


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def joined(
    coordinator: Coordinator, halt: Halt, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Link]:
    """A link that is open to the coordinator."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Upload": grpc.stream_unary_rpc_method_handler(coordinator.upload),
        "Begin": grpc.unary_unary_rpc_method_handler(coordinator.begin),
    }
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        address = f"localhost:{server.add_insecure_port('localhost:0')}"
        server.start()
        monkeypatch.setattr(
            link, "open_channel", lambda _, there, __: grpc.insecure_channel(there, options=OPTIONS)
        )
        made = Link(lambda: Credentials(b"", b"", b""), address, Capabilities((), (), ()), clock, halt)
        made.open()
        yield made
        made.close()
        server.stop(None).wait()


def sent(side: Link, parcel: Parcel = PARCEL) -> bool:
    """Send a parcel as `uploads.send` does, once."""
    return not side.begin(parcel).complete and side.upload(parcel, iter([(0, b"abc")])).complete


def test_after_an_upload_the_coordinator_may_ask_for_a_new_connection(
    joined: Link, coordinator: Coordinator
) -> None:
    """And hears the next call on it: what the old one made it hold is free."""
    for again in (False, True, False):
        coordinator.reply.reconnect = again
        assert sent(joined)
    assert coordinator.peers[0] == coordinator.peers[1] != coordinator.peers[2]


def test_without_credentials_the_old_connection_goes_on(
    joined: Link, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update is there, so nothing has failed."""

    def unreadable(*_: object) -> grpc.Channel:
        raise BadConfiguration("tls.pem does not exist")

    coordinator.reply.reconnect = True
    monkeypatch.setattr(link, "open_channel", unreadable)
    assert sent(joined)
    assert sent(joined)
    assert coordinator.peers[0] == coordinator.peers[1]


def test_one_chunk_goes_unasked_if_the_coordinator_says_so(joined: Link, coordinator: Coordinator) -> None:
    """Until something goes wrong: whoever does not know what is there asks."""
    coordinator.reply.unasked = True
    for _ in range(3):
        assert sent(joined)
    assert coordinator.calls == ["begin", "upload", "upload", "upload"]
    assert sent(joined, replace(PARCEL, bytes=CHUNK + 1))
    assert coordinator.calls[4:] == ["begin", "upload"]
    coordinator.full = True
    with pytest.raises(Unavailable):
        sent(joined)
    coordinator.full, coordinator.reply.unasked = False, False
    for _ in range(2):
        assert sent(joined)
    assert coordinator.calls[6:] == ["upload", "begin", "upload", "begin", "upload"]
