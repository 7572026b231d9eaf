"""Many sites in one folder: each process is the first site that no other process is.

For clients that are started as copies of each other (`docker compose up --scale client=5`): a copy has no
name of its own, so it cannot be told which folder is its.  A site's identity stays in its folder and belongs
to whoever holds the folder's lock, so that copies that are stopped and started, or made anew, are the same
sites again, whichever of them comes first.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from .files import private_folder


@contextmanager
def claimed(pool: Path) -> Iterator[Path]:
    """Yield POOL/site-N with the smallest N that nobody else has, and keep it to this process.

    The kernel drops the lock with the process, however that ends; it holds between containers that share the
    folder, since they share the kernel.
    """
    private_folder(pool)
    for number in count(1):
        folder = private_folder(pool / f"site-{number}")
        descriptor = os.open(folder / "claim", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield folder
        finally:
            os.close(descriptor)  # and with it the claim
        return
