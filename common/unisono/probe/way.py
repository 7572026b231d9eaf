"""Walks the way that gRPC takes to a coordinator, and names the step that fails."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unisono.base.errors import BadConfiguration
from unisono.base.units import show_seconds

from .finding import Finding, failure, ok, warning
from .proxy import Proxy, Refusal, proxy_for, tunnel
from .tls import Failed, accepted, judged, shown

Say = Callable[[str], None]
SECONDS = 5.0  # for each step that waits for somebody
FAR = 1.0  # seconds for a connection that are worth a word


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to reach, with what in hand.  `ca` and `pair` (certificate and key files) may be missing."""

    host: str
    port: int
    wall: float  # this machine's clock: a certificate is judged by it
    environment: Mapping[str, str]
    ca: bytes | None = None
    pair: tuple[Path, Path] | None = None
    seconds: float = SECONDS
    dialled: str = field(
        default=""
    )  # where to connect if that is not host:port, as on the coordinator itself

    @classmethod
    def at(cls, address: str, wall: float, environment: Mapping[str, str], ca: bytes | None) -> "Target":
        """Read "host:port".  Raises BadConfiguration."""
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise BadConfiguration(f'a coordinator is called "host:port", not "{address[:80]}"')
        return cls(host.strip("[]"), int(port), wall, environment, ca)

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def walk(target: Target, say: Say = lambda _: None) -> Iterator[Finding]:
    """Yield what each step finds, and stop at the first that fails.  `say` is told what is being tried."""
    try:
        yield from _steps(target, say)
    except Failed as failed:
        yield failed.finding


def first_failure(findings: Iterable[Finding]) -> Finding | None:
    """Return the first finding that is a failure."""
    return next((finding for finding in findings if finding.failed), None)


def _steps(target: Target, say: Say) -> Iterator[Finding]:
    route = proxy_for(target.host, target.environment)
    proxy = None if target.dialled else route.proxy
    host, port = (proxy.host, proxy.port) if proxy else (target.dialled or target.host, target.port)
    if proxy:
        yield ok("proxy", f"goes through {proxy.host}:{proxy.port} ({proxy.variable})")
    elif route.remark and not target.dialled:
        yield warning("proxy", route.remark, "set https_proxy in lower case, or ignore this if it works")
    elif not target.dialled:
        yield ok("proxy", "none is set")
    say(f"looking up {host}")
    addresses = _resolved(host, port, target.seconds)
    found = ", ".join(dict.fromkeys(address for address, _ in addresses))
    yield ok("name", f"{host} is {'an address' if found == host else found}")
    say(f"connecting to {host}:{port}")
    began = time.monotonic()
    _connected(addresses, f"{host}:{port}", target.seconds).close()
    took = time.monotonic() - began
    words = f"{host}:{port} answers in {took * 1000:.0f} ms"
    yield (
        warning("connection", words, "a far or busy network: works, slowly")
        if took > FAR
        else ok("connection", words)
    )
    if proxy:
        say(f"asking the proxy for {target.address}")
        _dial(target, proxy, addresses).close()
        yield ok("tunnel", f"the proxy connects to {target.address}")
    say(f"TLS handshake with {target.address}")
    yield from _secured(target, proxy, addresses)


def _secured(target: Target, proxy: Proxy | None, addresses: list[tuple[str, int]]) -> Iterator[Finding]:
    def dial() -> socket.socket:
        return _dial(target, proxy, addresses)

    found = shown(dial, target.host)
    if target.ca is None:
        yield warning(
            "TLS", f"answers with {found.version}", "whose certificate it is can only be told with --token"
        )
        return
    yield judged(found, target.ca, target.address, target.host, target.wall, proxy is not None)
    if target.pair is not None:
        yield accepted(dial, target.host, target.ca, target.pair)


def _dial(target: Target, proxy: Proxy | None, addresses: list[tuple[str, int]]) -> socket.socket:
    """Return a connection on which the coordinator should speak TLS.  Raises Failed."""
    there = f"{proxy.host}:{proxy.port}" if proxy else target.address
    made = _connected(addresses, there, target.seconds)
    if proxy is None:
        return made
    try:
        tunnel(made, proxy, target.host, target.port)
    except Refusal as refusal:
        made.close()
        words = f"the proxy {there} refuses {target.address}: {refusal}"
        raise Failed(failure("tunnel", words, _refused_by_proxy(str(refusal), proxy))) from None
    except OSError as error:
        made.close()
        words = f"the proxy {there} does not answer CONNECT {target.address}: {error or 'no answer in time'}"
        raise Failed(failure("tunnel", words, f"is it an HTTP proxy?  see {proxy.variable}")) from None
    return made


def _refused_by_proxy(words: str, proxy: Proxy) -> str:
    if words.startswith("407"):
        return f"it wants a login: {proxy.variable}=http://USER:PASSWORD@{proxy.host}:{proxy.port}"
    return "ask whoever runs it to allow CONNECT to this host and port, or name the host in no_proxy"


def _resolved(host: str, port: int, seconds: float) -> list[tuple[str, int]]:
    """Look a name up.  In a thread: the resolver has no time limit of its own.  Raises Failed."""
    found: list[tuple[str, int]] = []
    wrong: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            found.extend(
                (str(a[4][0]), int(a[4][1])) for a in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            wrong.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    if found:
        return found
    if wrong and isinstance(wrong[0], socket.gaierror) and wrong[0].errno != socket.EAI_AGAIN:
        advice = "check the spelling, or ask for a DNS entry; some names are known inside a network only"
        raise Failed(failure("name", f"{host} is not known to this machine's DNS", advice))
    words = f"no DNS server says what {host} is" + ("" if wrong else f" within {show_seconds(seconds)}")
    raise Failed(failure("name", words, "is this machine on the network?  see /etc/resolv.conf"))


def _connected(addresses: list[tuple[str, int]], there: str, seconds: float) -> socket.socket:
    """Connect to the first address that answers.  Raises Failed with what the last one said."""
    last: OSError = OSError("no address")
    for address in dict.fromkeys(addresses):
        try:
            return socket.create_connection(address, timeout=seconds)
        except OSError as error:
            last = error
    raise Failed(_no_connection(last, there, seconds)) from None


def _no_connection(error: OSError, there: str, seconds: float) -> Finding:
    if isinstance(error, ConnectionRefusedError):
        return failure(
            "connection",
            "connection refused; nothing listens there",
            "is the coordinator running, and is this its port?",
        )
    if error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}:
        advice = "is this machine on the network, and is a VPN needed?"
        return failure("connection", f"there is no route to {there}", advice)
    if isinstance(error, TimeoutError):
        advice = "a firewall drops it, or the machine is off: ask for this port to be opened outwards"
        return failure("connection", f"{there} does not answer within {show_seconds(seconds)}", advice)
    return failure("connection", f"{there}: {error.strerror or error}", "see what the network says")
