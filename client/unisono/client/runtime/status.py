"""The one table from gRPC statuses back to our errors: the inverse of the coordinator's `services.status`.

A status without our code did not come from a coordinator's handler: it is gRPC's own word about the
connection, a proxy's, or a limit of the transport.
"""

import re

import grpc

from unisono.base.errors import (
    BadConfiguration,
    BadCredentials,
    BadMessage,
    BadUpdate,
    Corrupt,
    Error,
    Fault,
    NotEnrolled,
    NotFound,
    PeerFault,
    Refused,
    Unavailable,
    Unreachable,
    WrongPhase,
)
from unisono.secagg.client import refusals
from unisono.secagg.server import faults

CODE, RETRY_AFTER = "unisono-code", "unisono-retry-after"  # trailing metadata
_RETRY_AFTER = 1.0  # seconds, where the coordinator names none


class HelloFirst(Refused):
    """The coordinator was restarted and does not know this connection yet."""

    code = "hello_first"


class CoordinatorFault(Fault):
    """The coordinator broke down over this call; it may do better the next time."""


class Untrusted(Unreachable):
    """Somebody answered whose TLS certificate is not what our CA would have issued for this host."""


_FAULTS = (
    faults.CohortTooSmall, faults.TooFewSurvivors, faults.NoQuorum, faults.TooFewShares, faults.SumMismatch,
    faults.AttemptOpen,
)  # fmt: skip


def _family(base: type[Error]) -> list[type[Error]]:
    """Return what secure aggregation adds to a family; `__subclasses__` lists them as they are written."""
    return base.__subclasses__()


_KNOWN: tuple[type[Error], ...] = (
    *_family(refusals.Refusal), *_FAULTS, *_family(faults.Blamed),
    Refused, WrongPhase, HelloFirst, NotEnrolled, NotFound, BadConfiguration, BadCredentials,
    PeerFault, BadMessage, BadUpdate, Corrupt, Unavailable, Unreachable, CoordinatorFault,
)  # fmt: skip
_CLASSES = {cls.code: cls for cls in _KNOWN}  # of a code in both families: the coordinator's
_STATUS: dict[grpc.StatusCode, type[Error]] = {
    grpc.StatusCode.PERMISSION_DENIED: NotEnrolled,
    grpc.StatusCode.UNAUTHENTICATED: BadCredentials,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.INVALID_ARGUMENT: BadMessage,
    grpc.StatusCode.OUT_OF_RANGE: BadMessage,
    grpc.StatusCode.DATA_LOSS: Corrupt,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unreachable,
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.UNIMPLEMENTED: Refused,
}
_UNTRUSTED = r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"
_REASONS = (  # what gRPC's texts mean, the most telling first
    (
        _UNTRUSTED,
        "the TLS certificate shown is not from this federation's CA, has expired, or names another host",
    ),
    (r"Hostname Verification|Peer name", "its TLS certificate is for another host name"),
    (
        r"[Hh]andshak|SSL_ERROR|TLS|tlsv1",
        "the TLS handshake failed: it does not accept our certificate, or a proxy stands in between",
    ),
    (r"DNS|[Nn]ame resolution|Could not contact|Domain name not found", "its name does not resolve"),
    (r"[Cc]onnection refused", "connection refused; nothing listens there"),
    (r"[Dd]eadline|[Tt]imed? ?out|keepalive|ping", "no answer in time"),
    (r"[Nn]o route|unreachable", "there is no route to it"),
    (r"Socket closed|[Cc]onnection reset|GOAWAY|Broken pipe|Stream removed", "the connection broke"),
)


def error_of(error: grpc.RpcError, address: str) -> Error:
    """Return the error of ours that a failed call means.  `address` names the coordinator for people."""
    if not isinstance(error, grpc.Call):
        return Unreachable(f"cannot reach {address}: {error}", _RETRY_AFTER)
    metadata = {key: str(value) for key, value in error.trailing_metadata() or ()}
    code, text = metadata.get(CODE), error.details() or ""
    family = _STATUS.get(error.code(), CoordinatorFault)
    wanted = _CLASSES.get(code, family) if code else family
    if code is None and wanted is Unreachable:
        wanted = Untrusted if re.search(_UNTRUSTED, text) else Unreachable
        text = f"cannot reach {address}: {reason_of(text)}"
    return make(wanted, text or error.code().name, _seconds(metadata.get(RETRY_AFTER)))


def make(family: type[Error], text: str, retry_after: float = _RETRY_AFTER) -> Error:
    """Return an error with the peer's own words, past the constructors that would word it themselves."""
    error = family.__new__(family, printable(text))
    if isinstance(error, Unavailable):
        error.retry_after = retry_after
    return error


def printable(text: str) -> str:
    """Return what of the coordinator's words may go to a site's terminal: no escape sequences."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def error_named(code: str, text: str) -> Error:
    """Return the error with this code."""
    return make(_CLASSES.get(code, Refused), text)


def reason_of(details: str) -> str:
    """Return what gRPC's description of a broken connection means, as far as it can be known."""
    for pattern, words in _REASONS:
        if re.search(pattern, details):
            return words
    return details[:200] or "no connection"


def _seconds(text: str | None) -> float:
    try:
        value = float(text or _RETRY_AFTER)
    except ValueError:
        return _RETRY_AFTER
    return min(max(value, 0.0), 3600.0) if value == value else _RETRY_AFTER  # noqa: PLR0124 - NaN
