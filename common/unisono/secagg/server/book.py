"""All that a coordinator knows of an attempt.  Nothing in it is secret before leg 4."""

from dataclasses import dataclass

from unisono.base.errors import Fault, WrongPhase
from unisono.base.ids import ClientName, Digest
from unisono.secagg.shared.certificates import AgreeCertificate
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.messages import Answer, Share, Signatures, Upload
from unisono.secagg.shared.roster import Attempt, Entry, Roster
from unisono.secagg.shared.statements import Members, Tally

from .faults import WrongIdentity

NO_MODEL = Digest("")  # until the roster is frozen


@dataclass(frozen=True, slots=True)
class Member(Coded):
    """One of the cohort, and the enrolled key that signs for it."""

    name: ClientName
    identity: bytes


@dataclass(frozen=True, slots=True)
class Setup(Coded, kind="server/setup"):
    """Whom an attempt invites."""

    attempt: Attempt
    members: tuple[Member, ...]
    only: tuple[ClientName, ...] = ()  # an open attempt is repeated: these survivors, or none


@dataclass(frozen=True)
class Book(Coded):
    """Grows by one message or decision at a time; each is a row of the ledger (`journal`).

    Clients are named until the roster is frozen and numbered from then on.
    """

    setup: Setup
    entries: tuple[Entry, ...] = ()
    frozen: Roster | None = None
    model: Digest = NO_MODEL
    ctx: bytes = b""
    shares: tuple[tuple[int, Share], ...] = ()
    u1: Members = ()
    complaints: tuple[tuple[int, int], ...] = ()  # (who, about whom)
    uploads: tuple[tuple[int, Upload], ...] = ()
    u2: Tally = ()
    agreements: Signatures = ()
    certified: Signatures = ()
    answers: tuple[tuple[int, Answer], ...] = ()
    abandons: Signatures = ()
    left_out: tuple[tuple[ClientName, str], ...] = ()  # with the code of what they did

    @property
    def roster(self) -> Roster:
        if self.frozen is None:
            raise Fault("the roster of this attempt is not frozen yet")
        return self.frozen

    @property
    def survivors(self) -> Members:
        return tuple(number for number, _ in self.u2)

    @property
    def dropped(self) -> Members:
        """Who shared and is not in U2: the pair masks with them have to be removed."""
        alive = set(self.survivors)
        return tuple(number for number in self.u1 if number not in alive)

    @property
    def certificate(self) -> AgreeCertificate | None:
        if not self.certified:
            return None
        return AgreeCertificate(self.ctx, self.u1, self.u2, self.certified)

    @property
    def apart(self) -> tuple[tuple[ClientName, ClientName], ...]:
        """Pairs not to be put into one cohort again: one could not read the other, and which lies is open."""
        name = self.roster.name
        return tuple((name(who), name(about)) for who, about in self.complaints)

    def member(self, client: ClientName) -> Member:
        """Return who this is.  Raises WrongIdentity for somebody who was not invited."""
        for member in self.setup.members:
            if member.name == client:
                return member
        raise WrongIdentity(f'"{client}" is not of this attempt\'s cohort', client)

    def number(self, client: ClientName, event: str) -> int:
        """Return the client's number.  Raises WrongIdentity, WrongPhase if it is not in the roster."""
        self.member(client)
        if self.frozen is None:
            raise WrongPhase("still collecting keys", event)
        number = self.roster.numbers.get(client)
        if number is None:
            raise WrongPhase("going on without this client: its keys came too late", event)
        return number

    def is_out(self, client: ClientName) -> bool:
        return any(name == client for name, _ in self.left_out)

    def present(self, numbers: Members) -> Members:
        """Return those of them who were not left out."""
        return tuple(number for number in numbers if not self.is_out(self.roster.name(number)))
