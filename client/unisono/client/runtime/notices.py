"""What a person at the site may want to know, as values: the screen words them, the log keeps them."""

from dataclasses import dataclass
from typing import Literal

Moving = Literal["download", "upload", "evaluating", "training", "writing", "masking"]
Step = Literal["download", "upload", "training", "evaluation"]


@dataclass(frozen=True, slots=True)
class Connected:
    """The coordinator knows us."""

    federation: str
    name: str
    online: int
    enrolled: int


@dataclass(frozen=True, slots=True)
class CannotReach:
    """There is no connection; the next try is in `again_in` seconds."""

    reason: str
    again_in: float


@dataclass(frozen=True, slots=True)
class ClocksDiffer:
    """The machine's clock and the coordinator's are `seconds` apart."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PlanAccepted:
    """The site takes part in a run."""

    run: str
    task: str
    rounds: int
    protection: str


@dataclass(frozen=True, slots=True)
class PlanWaits:
    """Somebody at the site has to look at a plan before it takes part."""

    run: str
    plan: str  # its digest


@dataclass(frozen=True, slots=True)
class PlanDeclined:
    """The site does not take part."""

    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Work goes on: bytes of a transfer, or whatever unit the task counts in."""

    run: str
    round: int
    what: Moving
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step of a round is done: bytes are 0 for training."""

    run: str
    round: int
    what: Step
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """The task could not do its work.  `detail` stays at the site."""

    run: str
    round: int
    code: str
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class RoundOver:
    """A round is published; `survivors` updates are in its model, ours among them if `counted`."""

    run: str
    round: int
    counted: bool
    survivors: int


@dataclass(frozen=True, slots=True)
class RunOver:
    """A run has ended."""

    run: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resting:
    """A transfer waits for the site's hours: nothing is fetched or sent before `until`."""

    run: str
    round: int
    hours: str
    until: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """The TLS certificate is new, valid until `not_after` (wall)."""

    not_after: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """The coordinator did not accept something; work goes on."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class RosterPinned:
    """A run's roster is held fast from now on.  `compared`: not only the coordinator wrote it."""

    run: str
    sites: int
    digest: str
    compared: bool


@dataclass(frozen=True, slots=True)
class SatOut:
    """An attempt is refused, and with `stops_run` all of its run, until somebody here has looked."""

    run: str
    round: int
    attempt: int
    code: str
    reason: str
    stops_run: bool
    plan: str  # what somebody approves again, once they have looked


@dataclass(frozen=True, slots=True)
class ReceiptRefused:
    """The coordinator's word for what this site sent does not hold.  Run "": that of its key."""

    run: str
    round: int
    reason: str


Notice = (
    Connected
    | CannotReach
    | ClocksDiffer
    | PlanAccepted
    | PlanDeclined
    | PlanWaits
    | Moved
    | Stepped
    | WorkFailed
    | RoundOver
    | RunOver
    | Resting
    | Renewed
    | Refusal
    | RosterPinned
    | SatOut
    | ReceiptRefused
)
