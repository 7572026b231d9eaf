"""The vocabulary of the coordinator's half: every stage has every verb, and refuses what it does not take.

Advertising -> Sharing -> Uploading -> Agreeing -> Revealing, and from Sharing on -> Closing

`client` is always the TLS identity.  A message that came before is taken again if it is the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from unisono.base.errors import WrongPhase
from unisono.base.ids import ClientName, Digest
from unisono.secagg.shared.encoding import MAX_STATE, Coded
from unisono.secagg.shared.messages import Abandon, Agree, Answer, Complaint, Share, Upload
from unisono.secagg.shared.roster import Entry
from unisono.secagg.shared.spec import Spec

from .book import Book
from .faults import SecondStatement

M = TypeVar("M", bound=Coded)

NOBODY = ClientName("")  # a decision of the coordinator's own


@dataclass(frozen=True, slots=True)
class Record(Coded, kind="server/record", limit=MAX_STATE):
    """One row of the ledger: what was accepted or decided.  `journal.restore` plays them again."""

    verb: str
    client: ClientName = NOBODY
    message: bytes = b""
    detail: str = ""


class Step:
    """A transition.  The new stage, and so its messages, cannot be had before the record is in the ledger."""

    __slots__ = ("_record", "_stage")

    def __init__(self, stage: "Stage", record: Record | None = None) -> None:
        self._stage, self._record = stage, record

    def after(self, append: Callable[[bytes], None]) -> "Stage":
        """Append the record (none, if nothing is new), then return the stage."""
        if self._record is not None:
            append(self._record.encode())
        return self._stage


@dataclass(frozen=True, slots=True)
class Stage(Coded, limit=MAX_STATE):
    """Refuses everything, and takes again what it has."""

    phase: ClassVar[str] = ""
    book: Book

    def advertise(self, client: ClientName, entry: Entry) -> Step:
        """Leg 0, up."""
        self.book.member(client)
        known = {entry.name: entry for entry in self.book.entries}
        return self._again(client, known.get(client), entry, "an advertisement")

    def freeze_roster(self, spec: Spec, model: Digest) -> Step:
        """Decide who is in the roster; `spec` is for that many clients."""
        raise WrongPhase(self.phase, "a roster")

    def share(self, client: ClientName, share: Share) -> Step:
        """Leg 1, up."""
        number = self.book.number(client, "a share message")
        return self._again(client, dict(self.book.shares).get(number), share, "a share message")

    def freeze_shares(self) -> Step:
        """Decide U1."""
        raise WrongPhase(self.phase, "freezing U1")

    def complain(self, client: ClientName, complaint: Complaint) -> Step:
        """Leg 1: a parcel did not open."""
        number = self.book.number(client, "a complaint")
        known = dict(self.book.complaints).get(number)
        return self._again(client, None if known is None else Complaint(known), complaint, "a complaint")

    def upload(self, client: ClientName, upload: Upload, length: int, digest: bytes) -> Step:
        """Leg 2, last: the statement, and what the spool really holds."""
        number = self.book.number(client, "an upload")
        return self._again(client, dict(self.book.uploads).get(number), upload, "an upload")

    def freeze_survivors(self) -> Step:
        """Decide U2."""
        raise WrongPhase(self.phase, "freezing U2")

    def agree(self, client: ClientName, agree: Agree) -> Step:
        """Leg 3, up."""
        number = self.book.number(client, "an agreement")
        known = dict(self.book.agreements).get(number)
        return self._again(client, None if known is None else Agree(known), agree, "an agreement")

    def certify(self) -> Step:
        """Enough agreed."""
        raise WrongPhase(self.phase, "a certificate")

    def reveal(self, client: ClientName, answer: Answer) -> Step:
        """Leg 4, up."""
        number = self.book.number(client, "a reveal")
        return self._again(client, dict(self.book.answers).get(number), answer, "a reveal")

    def close(self) -> Step:
        """Give the attempt up and ask for signatures that it will never be opened."""
        raise WrongPhase(self.phase, "closing")

    def abandon(self, client: ClientName, abandon: Abandon) -> Step:
        """Answer to `Closing`."""
        number = self.book.number(client, "an abandon statement")
        known = dict(self.book.abandons).get(number)
        again = None if known is None else Abandon(known)
        return self._again(client, again, abandon, "an abandon statement")

    def leave_out(self, client: ClientName, code: str) -> Step:
        """Go on without this client: it is lost, or did what `code` says."""
        self.book.member(client)
        if self.book.is_out(client):
            return Step(self)
        left_out = (*self.book.left_out, (client, code))
        stage = replace(self, book=replace(self.book, left_out=left_out))
        return Step(stage, Record("leave_out", client, detail=code))

    def message_for(self, client: ClientName) -> Coded | None:
        """Return what this client is to be sent now, the same however often it asks; None: nothing."""
        return None

    def waiting_for(self) -> tuple[ClientName, ...]:
        """Return whose next message is awaited."""
        return ()

    def _again(self, client: ClientName, known: M | None, message: M, event: str) -> Step:
        if known is None:
            raise WrongPhase(self.phase, event)
        if known != message:
            raise SecondStatement(f'"{client}" sent {event} that differs from its first one', client)
        return Step(self)

    def _admit(self, client: ClientName, event: str) -> int:
        """Return the number of a client that is still taking part."""
        number = self.book.number(client, event)
        if self.book.is_out(client):
            raise WrongPhase("going on without this client", event)
        return number
