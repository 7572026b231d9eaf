"""The TLS handshake once more, with `ssl`, to learn why it fails: gRPC says UNAVAILABLE to everything.

First without any check, to read the certificate that is shown (nothing is sent there, not even our own
certificate), and to judge it by our own rules and clock; then as gRPC does it, with our certificate.
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unisono.base.errors import BadCredentials, Unreachable
from unisono.base.ids import is_name
from unisono.identity.presented import Presented, names_host, presented

from .finding import Finding, failure, ok
from .validity import clock_of, when

Dial = Callable[[], socket.socket]
_NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
}
_ALERTS = {  # what the coordinator says of our certificate (RFC 8446, 6.2)
    "UNKNOWN_CA": "it is of another federation's CA than this coordinator's",
    "CERTIFICATE_EXPIRED": "it has expired by the coordinator's clock",
    "BAD_CERTIFICATE": "it was altered, or is not yet valid by the coordinator's clock",
    "CERTIFICATE_REQUIRED": "none arrived: something in between took it away",
    "CERTIFICATE_UNKNOWN": "it is not one of this federation",
}


class OtherHost(Unreachable):
    """The federation's coordinator answers, under a name that its certificate does not have."""


class Failed(Exception):
    """A step that nothing can follow."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.words)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Shown:
    """What the other end presented."""

    certificate: bytes  # DER
    version: str
    http2: bool


def shown(dial: Dial, host: str) -> Shown:
    """Read the certificate that is shown at `host`, unchecked.  Raises Failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with dial() as plain, context.wrap_socket(plain, server_hostname=host) as tls:
            der = tls.getpeercert(binary_form=True) or b""
            return Shown(der, tls.version() or "TLS", tls.selected_alpn_protocol() == "h2")
    except ssl.SSLError as error:
        raise Failed(_no_handshake(error, dial)) from None
    except TimeoutError:
        words = "the connection stands, and nobody answers the TLS handshake"
        raise Failed(failure("TLS", words, "the coordinator is frozen, or a firewall swallows TLS")) from None
    except OSError as error:
        words = f"the connection is cut in the TLS handshake: {error.strerror or error}"
        raise Failed(failure("TLS", words, _CUT)) from None


def judged(found: Shown, ca: bytes, address: str, host: str, wall: float, proxied: bool) -> Finding:
    """Judge what was shown by this federation's CA, host name and clock.  Raises Failed."""
    try:
        them = presented(found.certificate, ca)
    except BadCredentials as error:
        raise Failed(failure("TLS", str(error), _INSPECTED)) from None
    problem = _stranger(them, host, proxied) if them.stranger else _not_for_us(them, host, wall)
    if problem is not None:
        raise Failed(problem)
    if not found.http2:
        words = f"{address} shows the right certificate but does not speak HTTP/2"
        raise Failed(failure("TLS", words, "something in between speaks HTTP/1.1 only: ask for an exception"))
    return ok(
        "TLS", f"{found.version}, certificate of this federation's coordinator, valid until {when(them.end)}"
    )


def accepted(dial: Dial, host: str, ca: bytes, pair: tuple[Path, Path]) -> Finding:
    """Show our certificate, as gRPC does, and see whether it is taken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(cadata=ca.decode("ascii"))
        context.load_cert_chain(*pair)
        with dial() as plain, context.wrap_socket(plain, server_hostname=host) as tls:
            first = tls.recv(1)  # the coordinator speaks first in HTTP/2, or says why it does not
    except ssl.SSLCertVerificationError as error:
        words = f"the TLS library refuses the coordinator's certificate: {error.verify_message}"
        return failure("our certificate", words, "look at the clock, and at the coordinator's hosts")
    except TimeoutError:
        return failure(
            "our certificate", "it was sent, and nothing came back", "the coordinator is frozen or busy"
        )
    except OSError as error:  # SSLError is one
        return _not_accepted(error)
    if not first:
        return _not_accepted(OSError("closed without a word"))
    return ok("our certificate", "accepted by the coordinator")


def _not_accepted(error: OSError) -> Finding:
    reason = getattr(error, "reason", None) or ""
    told = next((words for alert, words in _ALERTS.items() if reason.endswith(f"ALERT_{alert}")), "")
    words = f"the coordinator refuses it: {told or reason or error}"
    advice = "ask the operator for a new token: unisono join with it keeps the name and the identity"
    return failure("our certificate", words, advice, BadCredentials)


def _stranger(them: Presented, host: str, proxied: bool) -> Finding:
    """Say who shows a certificate that is not of our CA."""
    words = "the TLS certificate shown is not from this federation's CA"
    if them.coordinator and is_name(them.issuer):  # a proxy may copy every name, but not what a CA is called
        advice = (
            f'the coordinator of federation "{them.issuer}" answers, another one than ours: '
            "check host and port, or join that one with a token of it"
        )
        return failure("TLS", words, advice, BadCredentials)
    if names_host(them.names, host) or proxied:
        advice = (
            f'a proxy that inspects TLS stands in between (issuer "{them.issuer}"); '
            "ask for an exception for this host"
        )
        return failure("TLS", words, advice)
    who = ", ".join(them.names[:3]) or "nobody"
    advice = (
        f'another server answers there (certificate for {who}, issuer "{them.issuer}"): check host and port'
    )
    return failure("TLS", words, advice)


def _not_for_us(them: Presented, host: str, wall: float) -> Finding | None:
    """Say what is wrong with a certificate of our CA, if anything is."""
    if wall < them.start:
        off = clock_of(wall, them.start + 3600.0, "that by which the certificate was issued").words
        words = f"the coordinator's certificate is not valid before {when(them.start)}"
        return failure("TLS", words, f"{off}: set it by NTP (timedatectl set-ntp true)")
    if wall > them.end:
        words = f"the coordinator's certificate expired on {when(them.end)}; here it is {when(wall)}"
        advice = "it renews it by itself, so one of the clocks is wrong: set this by NTP, ask the operator"
        return failure("TLS", words, advice)
    if not them.coordinator:
        return failure("TLS", "a member's certificate is shown, not the coordinator's", "check host and port")
    if not names_host(them.names, host):
        words = f"the coordinator's certificate is for {', '.join(them.names)}, not for {host}"
        advice = f"dial one of these names, or have {host} added to hosts in coordinator.toml"
        return failure("TLS", words, advice, OtherHost)
    return None


def _no_handshake(error: ssl.SSLError, dial: Dial) -> Finding:
    reason = error.reason or type(error).__name__
    if isinstance(error, _CLOSED) or reason == "UNEXPECTED_EOF_WHILE_READING":
        return failure("TLS", "the connection is closed in the TLS handshake", _CUT)
    if reason in _NO_TLS:
        if _speaks_http(dial):
            return failure(
                "TLS", "plain HTTP is spoken on that port, not TLS", "check the port: 8443 by default"
            )
        return failure("TLS", "what answers there does not speak TLS", "check host and port")
    return failure("TLS", f"the TLS handshake failed: {reason}", _INSPECTED)


def _speaks_http(dial: Dial) -> bool:
    try:
        with dial() as plain:
            plain.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return plain.recv(5) == b"HTTP/"
    except (OSError, Failed):
        return False


_CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # which of them, differs between Python's versions
_INSPECTED = (
    "a firewall or proxy that looks into TLS may do this: ask for an exception for this host and port"
)
_CUT = f"if the coordinator was only just started, try again in some seconds; {_INSPECTED}"
