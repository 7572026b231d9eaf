"""What the coordinator's folder may hold: measured now and then, with what was promised since."""

import os
from collections.abc import Hashable
from pathlib import Path

from unisono.base.clock import Clock

AGAIN = 5.0  # seconds until the folder is measured again


class Room:
    """The size of a folder.  Cheap enough for the event loop: a few files a round, looked at every 5 s."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._measured, self._at = 0, float("-inf")
        self._promised: dict[Hashable, int] = {}

    def used(self, but: Hashable = None) -> int:
        """Return the bytes that the folder holds, and those promised since that, `but` for what is asked.

        An upload asks twice, before its stream and with it: it needs no room beside its own.
        """
        now = self._clock.ticks()
        if now - self._at >= AGAIN:
            self._measured, self._at = _size(self._folder), now
            self._promised.clear()
        return self._measured + sum(self._promised.values()) - self._promised.get(but, 0)

    def promise(self, to: Hashable, count: int) -> None:
        """Count bytes that somebody was just told to send; what it was told before is part of them."""
        self._promised[to] = count


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name), follow_symlinks=False).st_size
            except FileNotFoundError:  # a file may go while we look
                continue
    return total
