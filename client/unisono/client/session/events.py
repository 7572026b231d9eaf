"""What may come of doing a state's work.  Facts, in the past tense."""

from dataclasses import dataclass

from .orders import NOTHING_KNOWN, Instruction, Known, Masked, Update


@dataclass(frozen=True, slots=True)
class Greeted:
    """The coordinator knows us."""


@dataclass(frozen=True, slots=True)
class Instructed:
    """An instruction came, and this is what we know about it."""

    cursor: int
    instruction: Instruction
    known: Known = NOTHING_KNOWN
    renew: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The state's work is done: renewed, described, answered, fetched, sent, said or slept."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The update is finished and in the vault; under secure aggregation, where it is masked later: None."""

    update: Update | None


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The masked vector is ready to be sent."""

    masked: Masked


@dataclass(frozen=True, slots=True)
class Failed:
    """The site could not do it, or refuses: a code and a text that may travel.

    `complaint`: the message of `secagg/1` that says so in its place.
    """

    code: str
    text: str
    complaint: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """The coordinator does not accept it now."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The coordinator found what we sent, or we what it sent, to be broken."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The coordinator asks to come back later; `roll` in [0, 1) spreads clients out."""

    retry_after: float
    roll: float


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no connection, or the coordinator broke down over the call (then `at_least` seconds pass)."""

    roll: float
    at_least: float = 0.0


@dataclass(frozen=True, slots=True)
class Rests:
    """It is outside the site's hours; look again in so many seconds, and ask then what is to be done."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LeaveAsked:
    """The process shall end."""


Event = (
    Greeted
    | Instructed
    | Done
    | Trained
    | Wrapped
    | Failed
    | Refused
    | Rejected
    | Busy
    | Lost
    | Rests
    | LeaveAsked
)
