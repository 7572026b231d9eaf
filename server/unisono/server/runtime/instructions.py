"""What a client is told: a value, the same after a restart, so that telling it twice does no harm."""

from dataclasses import dataclass, field
from typing import Literal

from unisono.base.ids import Digest, RunId

from .receipts import Told


@dataclass(frozen=True, slots=True)
class Consider:
    """Look at a plan: join or decline."""

    run: RunId
    plan: bytes
    cohort: int


@dataclass(frozen=True, slots=True)
class SendModel:
    """Upload the initial model that was announced."""

    run: RunId
    model: Digest


@dataclass(frozen=True, slots=True)
class Work:
    """Take part in one attempt of a round."""

    run: RunId
    round: int
    attempt: int
    what: Literal["train", "evaluate"]
    plan: Digest
    model: Digest
    model_bytes: int
    spec: bytes
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Secure:
    """Take part in one attempt under secure aggregation; `message` is empty in the invitation."""

    run: RunId
    round: int
    attempt: int
    what: Literal["train", "evaluate"]
    plan: Digest
    model: Digest
    model_bytes: int
    idle_seconds: float
    manifest: tuple[tuple[str, Digest], ...]  # site and fingerprint of its signing key
    certificates: tuple[bytes, ...]  # of the round's earlier attempts
    message: bytes


Duty = Consider | SendModel | Work | Secure | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a client's last round or run ended."""

    run: RunId
    round: int
    state: str
    reason: str
    counted: bool
    survivors: int
    model: Digest | None


@dataclass(frozen=True, slots=True)
class Instruction:
    """All of it.  `cursor` names the content: a client that shows it has seen it."""

    what: Duty
    last: Outcome | None
    renew: bool
    receipts: tuple[Told, ...] = field(default=(), compare=False)  # given once, not repeated by the cursor

    @property
    def cursor(self) -> int:
        return hash(self) & 0xFFFF_FFFF_FFFF_FFFF or 1
