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
    return status, str(error)[:MOST], metadata
