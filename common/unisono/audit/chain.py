"""The hash of a line of an audit log covers the line and the hash before it.

So a line cannot be changed, taken out or moved without changing every later one.  Lines cut off the end are
missed by whoever knows a later hash: a receipt holds one of the coordinator's log.
"""

from unisono.base.ids import Digest
from unisono.crypto import encode, sha256_hex

LABEL = b"unisono/audit/1"  # first field under the hash of every line of a coordinator's log
START = Digest("0" * 64)  # stands before the first line


def coordinator_line(previous: Digest, seq: int, wall: float, told: tuple[str, str, str, str]) -> Digest:
    """Return the hash of a line of the coordinator's log; `told` is its kind, run, subject and body."""
    return sha256_hex(encode(LABEL, previous, seq, repr(float(wall)), *told))


def site_line(previous: Digest, number: int, wall: float, kind: str, detail: str) -> Digest:
    """Return the hash of a line of a site's log; `detail` is canonical JSON."""
    return sha256_hex(encode(previous, number, repr(wall), kind, detail))
