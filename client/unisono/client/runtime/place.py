"""Where a file of open attempts belongs: a copy of it, or an old one put back, must be told from itself."""

from collections.abc import Mapping
from pathlib import Path

from unisono.crypto import sha256_hex

MACHINE = Path("/etc/machine-id")  # of systemd, and of most containers' images; absent elsewhere


def place_of(file: Path, machine: Path = MACHINE) -> Mapping[str, str]:
    """Return the machine and the inode of a file: a copy has another inode, a copied disk another machine.

    The machine's id is hashed: it is meant to be kept to the machine.
    """
    try:
        known = sha256_hex(machine.read_bytes())
    except OSError:
        known = sha256_hex(b"")
    return {"machine id": known, "inode": str(file.stat().st_ino)}
