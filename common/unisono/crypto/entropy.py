"""Where random bytes come from: an argument everywhere, so that tests and vectors can repeat a run."""

import os
from collections.abc import Callable

Entropy = Callable[[int], bytes]  # returns that many unpredictable bytes


def system_entropy(count: int) -> bytes:
    """Return bytes of the operating system's generator; what every process passes."""
    return os.urandom(count)
