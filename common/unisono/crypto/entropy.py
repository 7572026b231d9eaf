"""Where random bytes come from: an argument everywhere, so that tests and vectors can repeat a run."""

from collections.abc import Callable

Entropy = Callable[[int], bytes]  # returns that many unpredictable bytes
