"""How a sealed update travels: its size and what it is bound to."""

from unisono.codec import Spec
from unisono.crypto import ENVELOPE, encode, sealed_length


def upload_bytes(spec: Spec) -> int:
    """Return the exact size of a sealed update."""
    return ENVELOPE + sealed_length(spec.bytes)


def seal_context(run: str, round_: int, client: str, model: str, spec: Spec) -> bytes:
    """Return what a sealed update is bound to.  Not to the attempt: a retry sends the same bytes."""
    return encode("update", run, round_, client, model, spec.digest)
