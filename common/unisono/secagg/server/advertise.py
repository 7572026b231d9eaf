"""Leg 0: collect keys, freeze the roster."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.errors import Corrupt, Fault, WrongPhase
from unisono.base.ids import ClientName, Digest
from unisono.crypto.digest import sha256
from unisono.crypto.keys import SealingKey, encapsulate
from unisono.secagg.shared import terms
from unisono.secagg.shared.roster import Entry, Roster, context
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.statements import advertise

from .book import Book, Setup
from .faults import BadSignature, CohortTooSmall, DuplicateKey, WeakKey, WrongIdentity
from .share import Sharing
from .stage import Record, Stage, Step


@dataclass(frozen=True, slots=True)
class Advertising(Stage, kind="server/advertising"):
    """May be open while the round before is still going on."""

    phase: ClassVar[str] = "collecting keys"

    def advertise(self, client: ClientName, entry: Entry) -> Step:
        book = self.book
        member = book.member(client)
        if any(known.name == client for known in book.entries):
            return Stage.advertise(self, client, entry)
        if book.is_out(client):
            raise WrongPhase("going on without this client", "an advertisement")
        if entry.name != client or entry.identity != member.identity:
            raise WrongIdentity(f'"{client}" advertised for another name or with another identity', client)
        statement = advertise(book.setup.attempt.ctx0, client, entry.keys)
        if entry.ctx0 != book.setup.attempt.ctx0 or not statement.signed(member.identity, entry.signature):
            raise BadSignature(f'the keys of "{client}" are not signed for this attempt', client)
        check_new(book, entry)
        check_sound(entry)
        stage = replace(self, book=replace(book, entries=(*book.entries, entry)))
        return Step(stage, Record("advertise", client, entry.encode()))

    def freeze_roster(self, spec: Spec, model: Digest) -> Step:
        entries = tuple(
            sorted((e for e in self.book.entries if not self.book.is_out(e.name)), key=lambda e: e.name)
        )
        check_size(len(entries), spec)
        roster = Roster(entries, spec)
        ctx = context(self.book.setup.attempt, model, roster)
        book = replace(self.book, entries=entries, frozen=roster, model=model, ctx=ctx)
        return Step(Sharing(book), Record("freeze_roster", message=spec.encode(), detail=model))

    def waiting_for(self) -> tuple[ClientName, ...]:
        here = {entry.name for entry in self.book.entries}
        names = (member.name for member in self.book.setup.members)
        return tuple(name for name in names if name not in here and not self.book.is_out(name))


def begin(setup: Setup) -> Advertising:
    """Return the first stage; the attempt itself is the driver's row, written before it is announced."""
    return Advertising(Book(setup))


def check_new(book: Book, entry: Entry) -> None:
    """Refuse a key that anybody, the sender included, has shown before."""
    known = {key for other in book.entries for key in other.keys}
    if known & set(entry.keys) or len(set(entry.keys)) != len(entry.keys):
        raise DuplicateKey(f'"{entry.name}" advertised a key that is there already', entry.name)


def check_sound(entry: Entry) -> None:
    """Refuse here, at the cost of one client, what would make all others refuse the roster."""
    probe = SealingKey.from_bytes(sha256(b"any key will do"))
    try:
        for x25519 in (entry.c, entry.s):
            probe.agree(x25519)
        for kem in (entry.ec, entry.es):
            encapsulate(kem)
    except Corrupt:
        raise WeakKey(f'"{entry.name}" advertised a key that gives no secret', entry.name) from None


def check_size(clients: int, spec: Spec) -> None:
    """Refuse what every client would refuse."""
    if not terms.FEWEST <= clients <= terms.MOST:
        raise CohortTooSmall(f"{clients} clients advertised keys; {terms.FEWEST} to {terms.MOST} may")
    if spec.terms.clients != clients:
        raise Fault(f"a spec for {spec.terms.clients} clients was made for a roster of {clients}")
    if problem := spec.terms.problem():
        raise CohortTooSmall(f"{clients} clients advertised keys: {problem}")
    if clients < spec.terms.minimum:
        raise CohortTooSmall(f"{clients} clients advertised keys; at least {spec.terms.minimum} are needed")
