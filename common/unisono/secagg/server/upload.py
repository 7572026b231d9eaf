"""Leg 2: pass the parcels on; collect upload statements; freeze U2.

Masked vectors are spooled and added elsewhere: only what the spool holds, by length and digest, comes here.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.errors import WrongPhase
from unisono.base.ids import ClientName
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.messages import Complaint, Deal, Dealt, Upload
from unisono.secagg.shared.statements import Members
from unisono.secagg.shared.statements import upload as statement

from .abandon import Closeable
from .agree import Agreeing
from .book import Book
from .faults import BadDigest, BadLength, BadSignature, ShareUnreadable, TooFewSurvivors
from .stage import Record, Stage, Step


@dataclass(frozen=True, slots=True)
class Uploading(Closeable, kind="server/uploading"):
    """U1 is frozen."""

    phase: ClassVar[str] = "uploading"

    def complain(self, client: ClientName, complaint: Complaint) -> Step:
        """Leave out who complains, as it does itself; the accused only on the word of more than c."""
        book = self.book
        number = book.number(client, "a complaint")
        known = dict(book.complaints)
        if number in known:
            return Stage.complain(self, client, complaint)
        self._admit(client, "a complaint")
        if not {number, complaint.about} <= set(book.u1) or number == complaint.about:
            raise WrongPhase(self.phase, "a complaint about somebody who sent this client nothing")
        if number in dict(book.uploads):
            raise WrongPhase(self.phase, "a complaint after the upload")
        out = [(client, "complained")]
        known[number] = complaint.about
        accused = book.roster.name(complaint.about)
        if convicted(book, tuple(known.items()), complaint.about) and not book.is_out(accused):
            out.append((accused, ShareUnreadable.code))
        complaints = (*book.complaints, (number, complaint.about))
        stage = replace(self, book=replace(book, complaints=complaints, left_out=(*book.left_out, *out)))
        return Step(stage, Record("complain", client, complaint.encode()))

    def upload(self, client: ClientName, upload: Upload, length: int, digest: bytes) -> Step:
        number = self._admit(client, "an upload")
        if number in dict(self.book.uploads):
            return Stage.upload(self, client, upload, length, digest)
        if number not in self.book.u1:
            raise WrongPhase("uploading without this client, which did not share in time", "an upload")
        check_upload(self.book, client, upload, length, digest)
        stage = replace(self, book=replace(self.book, uploads=(*self.book.uploads, (number, upload))))
        return Step(stage, Record("upload", client, upload.encode()))

    def freeze_survivors(self) -> Step:
        """Freeze U2, once: its members sign one set only."""
        book = self.book
        uploads = dict(book.uploads)
        u2 = tuple((number, uploads[number].digest) for number in chosen(book))
        minimum = book.roster.spec.terms.minimum
        if len(u2) < minimum:
            raise TooFewSurvivors(f"{len(u2)} of {len(book.u1)} clients uploaded, {minimum} needed")
        return Step(Agreeing(replace(book, u2=u2)), Record("freeze_survivors"))

    def message_for(self, client: ClientName) -> Coded | None:
        number = self.book.roster.numbers.get(client)
        return deal_for(self.book, number) if number in self.book.u1 and number is not None else None

    def waiting_for(self) -> tuple[ClientName, ...]:
        uploads = dict(self.book.uploads)
        return self.book.roster.names(tuple(n for n in self.book.present(self.book.u1) if n not in uploads))


def convicted(book: Book, complaints: tuple[tuple[int, int], ...], about: int) -> bool:
    """Tell whether an honest client must be among those who cannot read this one: they are more than c."""
    return sum(accused == about for _, accused in complaints) > book.roster.spec.terms.colluding


def check_upload(book: Book, client: ClientName, upload: Upload, length: int, digest: bytes) -> None:
    """Refuse unless what is stored, what is signed and what the spec says are one thing."""
    expected = book.roster.spec.length
    if not length == upload.length == expected:
        raise BadLength(f'"{client}" sent {length} bytes and signed {upload.length}, not {expected}', client)
    if upload.digest != digest:
        raise BadDigest(f'what is stored of "{client}" is not what it signed', client)
    signed = statement(book.ctx, book.u1, length, digest)
    if not signed.signed(book.member(client).identity, upload.signature):
        raise BadSignature(f'the upload of "{client}" is not signed for this context and U1', client)


def chosen(book: Book) -> Members:
    """Return who can be in U2; where an open attempt is repeated, exactly its survivors."""
    present = book.present(tuple(sorted(number for number, _ in book.uploads)))
    if not book.setup.only:
        return present
    missing = set(book.setup.only) - set(book.roster.names(present))
    if missing:
        names = ", ".join(sorted(missing))
        raise TooFewSurvivors(
            f"an open attempt is repeated; it needs the same survivors: waiting for {names}"
        )
    return tuple(number for number in present if book.roster.name(number) in book.setup.only)


def place(of: int, among_others_of: int) -> int:
    """Return where a client stands in a list of all other clients."""
    return of - 1 if of < among_others_of else of - 2


def deal_for(book: Book, receiver: int) -> Deal:
    """Return what the members of U1 sent to this one."""
    shares = dict(book.shares)
    return Deal(
        book.u1,
        tuple(
            Dealt(sender, shares[sender].parcels[place(receiver, sender)], shares[sender].signature)
            for sender in book.u1
            if sender != receiver
        ),
    )
