"""The connection to the coordinator: mutual TLS, and calls that raise our errors (`client.admin` too)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

import grpc

from unisono.base.clock import Clock
from unisono.base.errors import BadConfiguration, BadCredentials, Unreachable
from unisono.base.system_clock import SystemClock
from unisono.crypto import TlsKey
from unisono.identity import check_key, peer_of, spki_sha256

from .files import finish_swap, naming
from .halt import Halt, Halted
from .status import error_of

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Channel = grpc.Channel

OPTIONS: tuple[tuple[str, int], ...] = (  # measured: transport-and-operations, section 1.4
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it a frozen peer is noticed a minute late
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # For an attempt, handshake and all: with a second nobody got through 5 kB/s, or a satellite.  (What is
    # refused is refused at once; the pauses between attempts are the session's.)
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 30_000),
    ("grpc.use_local_subchannel_pool", 1),  # a channel that is opened again tries at once
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one side shows and trusts: PEM, in memory."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def read(cls, folder: Path, stem: str) -> Self:
        """Read `ca.pem`, `STEM.pem` and `STEM.key`.  Raises BadConfiguration if one is missing."""
        finish_swap(folder, stem)
        try:
            parts = [(folder / name).read_bytes() for name in ("ca.pem", f"{stem}.pem", f"{stem}.key")]
        except FileNotFoundError as error:
            hint = (
                "run unisono join first" if stem == "tls" else "is --dir the folder that unisono init made?"
            )
            raise BadConfiguration(f"{error.filename} does not exist\n  {hint}") from None
        found = cls(*parts)
        found._check_files(folder, stem)
        return found

    def _check_files(self, folder: Path, stem: str) -> None:
        """Raise BadConfiguration naming the file that is damaged, or not of the others."""
        advice = "restore it from a backup, or join again with a new token: name and identity stay"
        if stem != "tls":
            advice = "restore it from a backup, or make a new one: unisono init, on the coordinator's machine"
        with naming(folder / "ca.pem", advice):
            spki_sha256(self.ca)
        with naming(folder / f"{stem}.pem", advice):
            peer_of(self.certificate)
        with naming(folder / f"{stem}.key", advice):
            check_key(TlsKey.from_pem(self.key), self.certificate)

    def check(self, wall: float) -> None:
        """Raise BadCredentials if the certificate has expired: a failed handshake could not say so."""
        peer = peer_of(self.certificate)
        if peer.not_after > wall:
            return
        when = datetime.fromtimestamp(peer.not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise BadCredentials(f"the certificate of {peer.name} expired on {when}\n  {_way_out(peer.kind)}")


def _way_out(kind: str) -> str:
    match kind:
        case "client":
            return "ask the operator for a new token: unisono join with it keeps the name and the identity"
        case "bootstrap":
            return "ask the operator for a new token"
        case _:
            return (
                "make a new one on the coordinator's machine: stop it, move DIR/admin away if it is there, "
                "then unisono init DIR --host HOST"
            )


def open_channel(credentials: Credentials, address: str, clock: Clock | None = None) -> grpc.Channel:
    """Return a channel that shows `credentials` and trusts their CA only.  Connects with the first call.

    Raises BadCredentials for an expired certificate.  The proxy of the environment (https_proxy) is honoured.
    """
    credentials.check((clock or SystemClock()).wall())
    tls = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
    return grpc.secure_channel(address, tls, options=OPTIONS)


def call(
    method: "grpc.UnaryUnaryMultiCallable[Request, Reply]",
    request: Request,
    timeout: float,
    address: str = "the coordinator",
) -> Reply:
    """Return the reply.  Raises our errors; Ctrl-C ends it."""
    future = method.future(request, timeout=timeout)
    with translated(address):
        return future.result()


def blocking(
    method: "grpc.UnaryUnaryMultiCallable[Request, Reply]",
    request: Request,
    timeout: float,
    address: str,
    halt: Halt,
    close: Callable[[], object],
) -> Reply:
    """Return the reply.  Raises our errors, and Halted as soon as `halt` is asked: that calls `close`.

    A call that blocks starts no thread, as a future does; it ends early only with its channel.
    """
    with translated(address, halt), halt.cancelling(close):
        return method(request, timeout=timeout)


@contextmanager
def translated(address: str, halt: Halt | None = None) -> Iterator[None]:
    """Turn gRPC's errors into ours; a call that `halt` cancelled, or whose channel it closed, into Halted."""
    try:
        yield
    except ValueError:  # what gRPC raises for a call on a closed channel
        if halt is not None:
            halt.check()
        raise
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        if halt is not None:
            halt.check()
        if isinstance(error, grpc.RpcError):
            raise error_of(error, address) from None
        if halt is None:
            raise Halted("the call was cancelled") from None
        raise Unreachable(f"cannot reach {address}: nothing moved any more", 1.0) from None  # a stall guard's
