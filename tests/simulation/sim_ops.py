"""The words of a world: what may happen, as values that can be written down, shrunk and pinned."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Setting:
    """A federation and a plan."""

    mode: Literal["sealed", "secagg"] = "secagg"
    sites: int = 3
    absent: int = 0  # of the sites, the last ones join only when they are started
    rounds: int = 1
    wait: Literal["all", "quorum"] = "all"
    size: int = 0  # of the cohort; 0: all that offer the task
    least: int = 0  # min_survivors
    attempts: int = 4
    roster: Literal["frozen", "open"] = "frozen"


@dataclass(frozen=True)
class Run:
    """So many messages arrive, each site's in turn; `together`: all that wait, before anything is done."""

    count: int = 5
    together: bool = False


@dataclass(frozen=True)
class Only:
    """`count` messages from or to one site arrive; the others' wait."""

    site: int
    count: int = 4


@dataclass(frozen=True)
class Advance:
    """Time passes; what can happen in it happens."""

    seconds: float = 1.0


@dataclass(frozen=True)
class LoseRequest:
    """The next message of a site never arrives."""

    site: int


@dataclass(frozen=True)
class LoseReply:
    """The next call of a site is carried out, and its answer never arrives."""

    site: int


@dataclass(frozen=True)
class Duplicate:
    """The next call of a site arrives a second time, later."""

    site: int


@dataclass(frozen=True)
class Late:
    """A site gives its next call up, and the request arrives later all the same."""

    site: int


@dataclass(frozen=True)
class Ghost:
    """One of the requests that nobody waits for any more arrives now."""

    which: int = 0


@dataclass(frozen=True)
class Cut:
    """The connection of a site breaks some steps of the coordinator after its next message arrived."""

    site: int
    steps: int = 2


@dataclass(frozen=True)
class KillCoordinator:
    """At its n-th touch of the disk from now, before or after it; 0: now."""

    touches: int = 0
    after: bool = False


@dataclass(frozen=True)
class StartCoordinator:
    """Begin a process on the same folder, if there is none."""


@dataclass(frozen=True)
class KillSite:
    """At its n-th transaction from now, before or after it; 0: now."""

    site: int
    touches: int = 0
    after: bool = False


@dataclass(frozen=True)
class StartSite:
    """Begin a process on the same folder, if there is none: also how a site joins for the first time."""

    site: int


@dataclass(frozen=True)
class Slow:
    """From now on the training of a site takes so long; `mute`: without any progress."""

    site: int
    seconds: float = 4.0
    mute: bool = False


@dataclass(frozen=True)
class TaskRaises:
    """The next training of a site fails."""

    site: int


@dataclass(frozen=True)
class Leave:
    """Somebody ends the client as one should."""

    site: int


@dataclass(frozen=True)
class Revoke:
    """The operator revokes a site."""

    site: int


@dataclass(frozen=True)
class Stop:
    """The operator stops the run."""


@dataclass(frozen=True)
class DiskFull:
    """The coordinator's next writes are refused for want of room."""

    writes: int = 1


@dataclass(frozen=True)
class DiskBad:
    """The coordinator's next touches of its disk fail."""

    touches: int = 1


@dataclass(frozen=True)
class SiteDiskFull:
    """The next transactions of a site's vault are refused for want of room."""

    site: int
    writes: int = 1


@dataclass(frozen=True)
class ClockStep:
    """A machine's wall clock jumps; site -1 is the coordinator."""

    site: int
    seconds: float


Op = (
    Run
    | Only
    | Advance
    | LoseRequest
    | LoseReply
    | Duplicate
    | Late
    | Ghost
    | Cut
    | KillCoordinator
    | StartCoordinator
    | KillSite
    | StartSite
    | Slow
    | TaskRaises
    | Leave
    | Revoke
    | Stop
    | DiskFull
    | DiskBad
    | SiteDiskFull
    | ClockStep
)
