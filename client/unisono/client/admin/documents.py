"""What the coordinator's documents say, as values: the JSON contract of DESIGN section 8, read and checked.

Unknown keys are passed over, because the coordinator may be one version ahead; `--json` prints the document
as it came, these types only serve what is shown to people.
"""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest


class Document(BaseModel):
    """Frozen; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class ClientStatus(Document):
    """What one client of the cohort does now."""

    name: str
    state: str  # invited, looking, working, uploaded, lost, failed, declined
    stage: str = ""
    done: int = 0
    total: int = 0
    silent_seconds: float = 0.0
    note: str = ""  # how the site's own limits hold it up


class Status(Document):
    """Where a run stands and what it waits for."""

    stage: str  # waiting, initialising, in_round, ended
    phase: str = ""  # announced, collecting, aggregating, or under secagg the leg
    what: str = ""  # train, evaluate
    round: int = 0
    rounds: int = 0
    attempt: int = 0
    sentence: str | None = None
    clients: tuple[ClientStatus, ...] = ()
    seconds: float = 0.0
    task: str = ""


class Event(Document):
    """One line of the audit log; further scalar keys are kept and shown as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    wall: float
    event: str
    client: str | None = None
    round: int | None = None
    seq: int | None = None  # of the audit line

    @property
    def details(self) -> dict[str, JsonValue]:
        """The keys beside those that every event may have."""
        return dict(self.model_extra or {})


class Round(Document):
    """A round that has been committed."""

    round: int
    attempts: int = 1
    cohort: int | tuple[str, ...] | None = None  # how many, or who, as far as the protection shows it
    survivors: int | tuple[str, ...] | None = None
    seconds: float | None = None
    metrics: Mapping[str, float] | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    model_sha256: str | None = None

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """How many took part, and how many of them counted."""
        return _size(self.cohort), _size(self.survivors)


class Run(Document):
    """`run show --json`, and every document of `run watch`."""

    id: str
    state: str  # waiting, running, finished, failed, stopped
    reason: str | None = None
    plan_sha256: str = ""
    protection: str = ""
    rounds: tuple[Round, ...] = ()  # the last ones, as many as fit
    rounds_published: int | None = None
    rounds_seconds: float | None = None
    model_sha256: str | None = None
    task: str = ""
    status: Status | None = None
    events: tuple[Event, ...] = ()

    @property
    def published(self) -> int:
        """How many rounds there are."""
        return len(self.rounds) if self.rounds_published is None else self.rounds_published

    @property
    def seconds(self) -> float:
        """How long all of them took."""
        return self.rounds_seconds or sum(r.seconds or 0.0 for r in self.rounds)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("finished", "failed", "stopped")


class Started(Document):
    """The answer to a new run."""

    id: str


class RunLine(Document):
    """A run in the list of runs."""

    id: str
    state: str
    task: str = ""
    round: int = 0
    rounds: int = 0
    started: float | None = None
    reason: str | None = None
    protection: str = ""


class Runs(Document):
    """`run list`."""

    runs: tuple[RunLine, ...] = ()
    runs_total: int | None = None


class Model(Document):
    """A model that the coordinator keeps."""

    round: int
    sha256: Annotated[Digest, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: int
    best: bool = False
    last: bool = False
    metrics: Mapping[str, float] | None = None


class Models(Document):
    """`model list`."""

    run: str
    models: tuple[Model, ...] = ()
    models_total: int | None = None
    clients: int | None = None
    plan_sha256: str = ""
    task: str = ""


class Client(Document):
    """An enrolled client."""

    name: str
    number: int = 0
    state: str  # online, offline, revoked
    last_seen: float | None = None
    not_after: float | None = None
    tasks: tuple[str, ...] = ()
    software: str = ""


class Clients(Document):
    """`clients`."""

    clients: tuple[Client, ...] = ()


class Token(Document):
    """A join token that can still be used."""

    name: str
    uses: int = 1
    used: int = 0
    not_after: float | None = None


class Tokens(Document):
    """`token list`."""

    tokens: tuple[Token, ...] = ()


class Acceptance(Document):
    """Whether a connected client would take part in a plan."""

    name: str
    accepts: bool
    reason: str = ""


class PlanCheck(Document):
    """What the coordinator knows of a plan before it runs."""

    clients: tuple[Acceptance, ...] = ()
    model_bytes: int | None = None
    coordinates: int | None = None


class Health(Document):
    """`health`."""

    status: str
    federation: str = ""
    software: str = ""
    wall: float | None = None  # the coordinator's clock
    clients_online: int = 0
    clients_enrolled: int = 0
    runs_active: int = 0
    disk_free_bytes: int | None = None
    certificate_not_after: float | None = None
    problems: tuple[str, ...] = ()


def _size(who: int | tuple[str, ...] | None) -> int | None:
    return len(who) if isinstance(who, tuple) else who


D = TypeVar("D", bound=Document)


def read(data: bytes, kind: type[D]) -> D:
    """Return a document of the coordinator.  Raises BadMessage that names the first wrong key."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole of it"
        raise BadMessage(
            f"the coordinator's answer is not what this version expects: {where}: {first['msg']}\n"
            "  compare the versions: unisono --version here, unisono health for the coordinator's"
        ) from error
