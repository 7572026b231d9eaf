"""One seed for everything that a task may draw from, so that work done again gives the same bytes.

What a round draws depends on plan, round and client and on nothing before it: a trainer that was killed and
started anew in round 7 draws what one that stayed warm since round 1 would have drawn.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from unisono.crypto import encode, sha256

LABEL = "unisono/training-seed/1"


def derive(seed: int, *place: str | int) -> int:
    """Return 63 bits for one place: ("model",), ("data", client), ("train", round, client)."""
    return int.from_bytes(sha256(encode(LABEL, seed, *place))[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed `random`, NumPy and, if it is loaded, torch."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside; outside, go on as if nothing had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch else None
    seed_all(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch and state is not None:
            torch.set_rng_state(state)
