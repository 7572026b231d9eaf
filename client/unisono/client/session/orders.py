"""What a coordinator may ask, and what this site knows about it: the words of a session, without the wire."""

from dataclasses import dataclass
from typing import Literal

from unisono.base.ids import Digest, RunId

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


Instruction = Idle | Consider | SendModel | Work


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
