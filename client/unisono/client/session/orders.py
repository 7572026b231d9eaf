"""What a coordinator may ask, and what this site knows about it: the words of a session, without the wire."""

from dataclasses import dataclass
from typing import Literal

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest, RunId
from unisono.secagg.shared.encoding import kind_of
from unisono.secagg.shared.roster import Pin

What = Literal["train", "evaluate"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of one round of a run."""

    run: RunId
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do; ask again."""


@dataclass(frozen=True, slots=True)
class Consider:
    """Look at a plan and say whether this site takes part."""

    run: RunId
    plan: bytes  # canonical
    digest: Digest
    cohort: int


@dataclass(frozen=True, slots=True)
class SendModel:
    """Upload the initial model that this site announced."""

    run: RunId
    model: Digest


@dataclass(frozen=True, slots=True)
class Work:
    """Take part in one attempt."""

    attempt: Attempt
    what: What
    plan: Digest
    model: Digest
    model_bytes: int
    spec: bytes  # canonical
    spec_digest: Digest
    idle_seconds: float

    @property
    def key(self) -> "UpdateKey":
        return UpdateKey(self.attempt.run, self.attempt.round, self.model, self.spec_digest)


Leg = Literal["invitation", "roster", "deal", "survivors", "quorum", "closing"]
_LEGS: tuple[Leg, ...] = ("roster", "deal", "survivors", "quorum", "closing")


@dataclass(frozen=True, slots=True)
class Secure:
    """Take part in one attempt under secure aggregation: one leg of it, and all to do it after a restart."""

    attempt: Attempt
    what: What
    plan: Digest
    model: Digest
    model_bytes: int
    idle_seconds: float
    manifest: tuple[Pin, ...]  # of the run: who may take part, and with which keys
    certificates: tuple[bytes, ...]  # what closes earlier attempts
    message: bytes  # of `secagg/1`, encoded; none: an invitation
    leg: Leg = "invitation"


def leg_of(message: bytes) -> Leg:
    """Return what an instruction's message is.  Raises BadMessage for one that no client is sent."""
    if not message:
        return "invitation"
    kind = kind_of(message)
    for leg in _LEGS:
        if leg == kind:
            return leg
    raise BadMessage(f'a message of the kind "{kind:.40}" is none that a client is sent')


Task = Work | Secure
Instruction = Idle | Consider | SendModel | Work | Secure


@dataclass(frozen=True, slots=True)
class UpdateKey:
    """What an update depends on.  Not the attempt: who is asked again sends the same bytes again."""

    run: RunId
    round: int
    model: Digest
    spec: Digest


@dataclass(frozen=True, slots=True)
class Update:
    """A finished update on this site's disk, as it travels."""

    key: UpdateKey
    file: str  # its name in updates/
    sha256: Digest
    bytes: int


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked vector on this site's disk, as it travels."""

    file: str  # its name in updates/
    sha256: Digest
    bytes: int


@dataclass(frozen=True, slots=True)
class Objection:
    """Why this site does not do what it was asked: a stable code and a sentence."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Known:
    """What vault, cache and policy say about one instruction."""

    objection: Objection | None = None
    prepared: bool = False  # the answer to Consider is in the vault, with the model it announces
    finished: Update | None = None
    cached: bool = False  # the model is in the cache, whole
    stored: bool = False  # the vector of a secure attempt is in the vault
    looking: bool = False  # somebody here has to look at the plan first
    over: bool = False  # this site sits the attempt out, and has said so


NOTHING_KNOWN = Known()
