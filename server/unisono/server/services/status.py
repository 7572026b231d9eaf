"""The one table between our errors and gRPC statuses; client.runtime.status holds its inverse."""

import grpc

from unisono.base.errors import (
    BadConfiguration,
    BadCredentials,
    Corrupt,
    Error,
    Fault,
    NotEnrolled,
    NotFound,
    PeerFault,
    Refused,
    Unavailable,
)

MOST = 2000  # characters of a message: it travels in HTTP/2 headers, which have 8 KiB
MOST_BYTES = 6000  # of it there, where each byte that is not ASCII takes three
CODE, RETRY_AFTER = "unisono-code", "unisono-retry-after"  # trailing metadata

_STATUS: tuple[tuple[type[Error], grpc.StatusCode], ...] = (  # the first that fits
    (NotEnrolled, grpc.StatusCode.PERMISSION_DENIED),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (BadConfiguration, grpc.StatusCode.INVALID_ARGUMENT),
    (BadCredentials, grpc.StatusCode.UNAUTHENTICATED),
    (Refused, grpc.StatusCode.FAILED_PRECONDITION),
    (Corrupt, grpc.StatusCode.DATA_LOSS),
    (PeerFault, grpc.StatusCode.INVALID_ARGUMENT),
    (Unavailable, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Fault, grpc.StatusCode.INTERNAL),
)

Metadata = tuple[tuple[str, str], ...]


def status_of(error: Exception) -> tuple[grpc.StatusCode, str, Metadata]:
    """Return status, text and trailing metadata.  What is not ours says nothing of its inside."""
    if not isinstance(error, Error):
        return grpc.StatusCode.INTERNAL, "internal error; the coordinator's log has it", ((CODE, Fault.code),)
    status = next((s for family, s in _STATUS if isinstance(error, family)), grpc.StatusCode.INTERNAL)
    metadata: Metadata = ((CODE, error.code),)
    if isinstance(error, Unavailable):
        metadata += ((RETRY_AFTER, f"{error.retry_after:g}"),)
    return status, _fitting(str(error)[:MOST]), metadata


def _fitting(text: str) -> str:
    """Cut what would be too long once it is percent-encoded: all of the answer would be lost with it."""
    size = 0
    for place, letter in enumerate(text):
        size += 1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode())
        if size > MOST_BYTES:
            return text[:place]
    return text
