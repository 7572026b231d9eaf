"""The operating system's generator: what every process passes as `Entropy`, and pure code cannot import."""

import os


def system_entropy(count: int) -> bytes:
    """Return that many bytes of it."""
    return os.urandom(count)
