"""When a process dies, and when its disk fails: as a world told it, at the n-th touch from now."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from unisono.base.errors import Fault, Unavailable


class Killed(BaseException):
    """The process is gone: no `except Exception` sees it, as none would see SIGKILL."""


@dataclass
class Disk:
    """How the coordinator's disk is; it outlives the process."""

    full: int = 0  # so many writes more are refused for want of room
    bad: int = 0  # so many touches more fail
    troubled: bool = False  # ever

    def write(self) -> None:
        self.touch()
        if self.full:
            self.full -= 1
            self.troubled = True
            raise Unavailable("disk full: nothing more can be written here", retry_after=2.0)

    def touch(self) -> None:
        if self.bad:
            self.bad -= 1
            self.troubled = True
            raise Fault("Input/output error")


@dataclass
class Doom:
    """When a life ends: at the n-th touch of the disk from now, before or after it."""

    touches: int = -1
    after: bool = False

    def meet(self) -> bool:
        if self.touches > 0:
            self.touches -= 1
        return self.touches == 0


@dataclass
class Fate:
    """What becomes of a site's next transactions."""

    doom: Doom = field(default_factory=Doom)
    full: int = 0  # transactions that find no room

    @contextmanager
    def around(self) -> Iterator[None]:
        """Do a transaction in it: the process may end before or after, and the disk may be full."""
        ends = self.doom.meet()
        if ends and not self.doom.after:
            raise Killed
        if self.full:
            self.full -= 1
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        yield
        if ends:
            raise Killed
