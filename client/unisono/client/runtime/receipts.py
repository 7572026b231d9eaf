"""Receipts of this site: what it sent, and the coordinator's signed word in which models it counts.

A row is written in the transaction that lets an update leave, and is due until the coordinator has
answered: with a receipt, or that the update does not count.  What is due is asked with every poll, so an
answer that was lost comes again; so are rounds of which files are left here, to hear that they are over.  A
receipt that does not hold is kept as it came, audited and told: it stops no work, for receipts are evidence
and protect nothing themselves.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unisono.audit import Receipt, tree_of
from unisono.audit.logs import open_read_only
from unisono.base.errors import BadCredentials, BadMessage
from unisono.base.ids import ClientName, Digest, RunId
from unisono.client.session import Instruction, Secure, Work
from unisono.identity import receipts_public, spki_sha256

from .notices import Notice, ReceiptRefused

if TYPE_CHECKING:
    from .link import Outcome
    from .vault import Vault

State = Literal["due", "held", "none", "refused"]
Round = tuple[RunId, int]
MOST = 32  # rounds that are asked about at a time
MOST_CERTIFICATE = 16 << 10  # bytes in PEM; it has some 700
SCHEMA = (
    """CREATE TABLE receipts (
        run TEXT NOT NULL, round INTEGER NOT NULL, sent TEXT NOT NULL, bytes INTEGER NOT NULL,
        protection TEXT NOT NULL, wall REAL NOT NULL, agreed TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'held', 'none', 'refused')),
        reason TEXT NOT NULL DEFAULT '', receipt TEXT NOT NULL DEFAULT '',
        certificate TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (run, round, sent)
    ) STRICT""",
    "CREATE INDEX receipts_due ON receipts (wall) WHERE state = 'due'",
    """CREATE TABLE receipt_keys (
        sha256 TEXT PRIMARY KEY, certificate TEXT NOT NULL
    ) STRICT""",
)


@dataclass(frozen=True, slots=True)
class Nothing:
    """The coordinator says that what was sent in a round counts in no model, or nothing readable."""

    run: RunId
    round: int
    reason: str
    readable: bool = True


Answer = Receipt | Nothing


@dataclass(frozen=True, slots=True)
class Sent:
    """An update that left this site, and what is known of it since."""

    run: RunId
    round: int
    sha256: Digest  # of its bytes as they travelled
    bytes: int
    protection: str
    wall: float
    state: State
    reason: str
    receipt: str  # JSON; "" if there is none
    certificate: str  # PEM, of the key that signed it


def expect(db: sqlite3.Connection, at: Round, sent: tuple[Digest, int], protection: str, wall: float) -> None:
    """Write, in the transaction that lets it leave, that an update is sent and has no receipt yet."""
    db.execute(
        "INSERT OR IGNORE INTO receipts (run, round, sent, bytes, protection, wall) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (*at, *sent, protection, wall),
    )


def agree(db: sqlite3.Connection, at: Round, updates: Iterable[tuple[ClientName, Digest]]) -> None:
    """Write, in the transaction of the signature under it, which survivor set a receipt has to be about."""
    pairs = tuple(updates)
    agreed = _set(Digest(tree_of(pairs).root.hex()), len(pairs))
    for _, sent in pairs:  # this site's own is one of them
        db.execute(
            "UPDATE receipts SET agreed = ? WHERE run = ? AND round = ? AND sent = ?", (agreed, *at, sent)
        )


class Receipts:
    """What is due, and what becomes of answers.  One thread."""

    def __init__(
        self, vault: "Vault", name: ClientName, ca_pem: bytes, show: Callable[[Notice], None]
    ) -> None:
        self._vault, self._name, self._ca_pem, self._show = vault, name, ca_pem, show
        self._ca = spki_sha256(ca_pem)
        self._public, self._key, self._trouble = b"", "", ""

    def certified(self, certificate: bytes) -> None:
        """Learn with which key this coordinator signs; an earlier version has none and is not asked."""
        self._public = b""
        if not certificate:
            return
        try:
            pem = _text(certificate)
            self._public = receipts_public(certificate, self._ca_pem, self._vault.wall())
        except BadCredentials as error:
            if str(error) != self._trouble:  # once, however often it connects
                self._trouble = str(error)
                with self._vault.transaction():
                    self._vault.note("receipt_refused", reason=self._trouble)
                self._show(ReceiptRefused("", 0, self._trouble))
            return
        self._key = spki_sha256(certificate)
        if not self._vault.rows("SELECT 1 FROM receipt_keys WHERE sha256 = ?", (self._key,)):
            with self._vault.transaction() as db:
                db.execute("INSERT INTO receipt_keys VALUES (?, ?)", (self._key, pem))
                self._vault.note("receipts_key", sha256=self._key)

    def due(self, kept: Collection[Round] = ()) -> tuple[Round, ...]:
        """Return the rounds to ask about: some of those `kept`, then those of the latest updates.

        What is said of a round means that it is over, so what is `kept` of it need not be kept any more.
        """
        if not self._public:
            return ()
        query = (
            "SELECT run, round FROM receipts WHERE state = 'due' GROUP BY run, round ORDER BY max(wall) DESC"
        )
        found = [(run, round_) for run, round_ in self._vault.rows(f"{query} LIMIT {MOST}", ())]
        return tuple(dict.fromkeys((*islice(kept, MOST // 2), *found)))[:MOST]

    def take(self, answers: Iterable[Answer], instruction: Instruction, last: "Outcome | None") -> None:
        """Keep what holds, refuse the rest; what was not asked for, or is known, changes nothing."""
        for answer in answers:
            at = _round_of(answer)
            due = self._vault.rows(
                "SELECT sent, agreed FROM receipts WHERE run = ? AND round = ? AND state = 'due'", at
            )
            if not due:
                continue
            match answer:
                case Nothing():
                    self._none(at, answer, last)
                case Receipt():
                    self._receipt(at, self._mine(answer), dict(due), instruction)

    def _mine(self, receipt: Receipt) -> Receipt:
        """Return it as one of this site in this federation: what is signed for another does not hold."""
        published = replace(receipt.published, ca=self._ca)
        return replace(receipt, published=published, counted=replace(receipt.counted, client=self._name))

    def _none(self, at: Round, answer: Nothing, last: "Outcome | None") -> None:
        said = (
            last is not None and (last.run, last.round) == at and last.state == "published" and last.counted
        )
        if said or not answer.readable:
            self._refuse(
                at, f"it says that the update counts, and: {answer.reason}" if said else answer.reason, ""
            )
            return
        with self._vault.transaction(durable=False) as db:
            _settle(db, at, "none", answer.reason)
            self._vault.note("not_counted", run=at[0], round=at[1], reason=answer.reason)

    def _receipt(self, at: Round, receipt: Receipt, due: dict[Digest, str], instruction: Instruction) -> None:
        try:
            self._check(receipt, due, instruction)
        except (BadCredentials, BadMessage) as wrong:
            self._refuse(at, str(wrong), receipt.to_json())
            return
        sent, published = receipt.counted.sha256, receipt.published
        with self._vault.transaction(durable=False) as db:  # lost with the power, it is asked for again
            db.execute(
                "UPDATE receipts SET state = 'held', receipt = ?, certificate = ? "
                "WHERE run = ? AND round = ? AND sent = ?",
                (receipt.to_json(), self._key, *at, sent),
            )
            _settle(db, at, "none", f"attempt {published.attempt} counts, with another update of this site")
            self._vault.note(
                "receipt", run=at[0], round=at[1], attempt=published.attempt, sha256=sent,
                what=published.what, model=published.model, survivors=published.count,
                coordinator_head=published.audit,
            )  # fmt: skip

    def _check(self, receipt: Receipt, due: dict[Digest, str], instruction: Instruction) -> None:
        """Raise BadCredentials or BadMessage unless it is signed, and fits what this site knows itself."""
        receipt.check(self._public)
        published, sent = receipt.published, receipt.counted.sha256
        if sent not in due:
            raise BadMessage(f"it is for an update that this site did not send in that round: {sent}")
        if due[sent] not in ("", published.root, _set(published.root, published.count)):
            raise BadMessage("it is about other survivors than those that this site signed for")
        if isinstance(instruction, Work | Secure):
            at = instruction.attempt
            follows = (at.run, at.round) == (published.run, published.round + 1)
            if follows and instruction.model != published.model:
                other = instruction.model
                raise BadMessage(f"it names the model {published.model}, the next round starts from {other}")

    def _refuse(self, at: Round, reason: str, receipt: str) -> None:
        with self._vault.transaction() as db:
            db.execute(
                "UPDATE receipts SET receipt = ?, certificate = ? "
                "WHERE run = ? AND round = ? AND state = 'due'",
                (receipt, self._key, *at),
            )
            _settle(db, at, "refused", reason)
            self._vault.note("receipt_refused", run=at[0], round=at[1], reason=reason)
        self._show(ReceiptRefused(at[0], at[1], reason))


def sent_by(folder: Path) -> list[Sent]:
    """Return all that left a site, from its folder, the oldest first; also beside the running client.

    A folder that no client of this version has opened holds no receipts.
    """
    query = (
        "SELECT run, round, sent, bytes, protection, wall, state, reason, receipt, "
        "coalesce((SELECT k.certificate FROM receipt_keys k WHERE k.sha256 = r.certificate), '') "
        "FROM receipts r ORDER BY wall, run, round, sent"
    )
    with closing(open_read_only(folder / "state.db")) as db:
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'receipts'").fetchall():
            return []
        return [Sent(*row) for row in db.execute(query)]


def _set(root: Digest, count: int) -> str:
    """Return what stands for a set of survivors: a path may fit the root under another count, too."""
    return f"{root} {count}"


def _text(certificate: bytes) -> str:
    """Return a certificate in PEM as text.  Readers of PEM skip what stands around it, whatever it is."""
    if len(certificate) > MOST_CERTIFICATE or not certificate.isascii():
        raise BadCredentials(
            f"the coordinator's certificate for receipts, {len(certificate)} bytes, is no PEM"
        )
    return certificate.decode("ascii")


def _settle(db: sqlite3.Connection, at: Round, state: State, reason: str) -> None:
    db.execute(
        "UPDATE receipts SET state = ?, reason = ? WHERE run = ? AND round = ? AND state = 'due'",
        (state, reason, *at),
    )


def over(answers: Iterable[Answer], kept: Collection[Round]) -> list[Round]:
    """Return which rounds need not be kept: those that the coordinator has said something of.

    What cannot be read counts: it comes at once, and kept would be asked for again, without a pause.
    """
    return [at for at in map(_round_of, answers) if at in kept]


def _round_of(answer: Answer) -> Round:
    match answer:
        case Nothing(run, round_):
            return run, round_
        case Receipt(published=published):
            return published.run, published.round
