"""A client's side of `secagg/1` on a real disk: checks, the state saved, then the message.

`secagg` decides; this finds what it asks for (policy, pins, model, vector, earlier releases), writes what it
returns before anything leaves, and audits.  What a refusal says is in the vault before it is said.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from unisono.base.errors import Corrupt, Error, Fault, PeerFault, Refused, WrongPhase
from unisono.base.ids import ClientName, Digest, RunId
from unisono.client.session import Attempt, Known, Masked, Objection, Secure, Update, UpdateKey
from unisono.client.trainer.at_rest import SealedFile
from unisono.crypto import AtRest, encode, sha256_hex, system_entropy
from unisono.identity import spoken
from unisono.secagg.client import (
    Advertised,
    Committed,
    Ready,
    Rostered,
    Shared,
    State,
    Uploaded,
    begin,
    model_of,
)
from unisono.secagg.client.checks import check_model, check_own_statement
from unisono.secagg.client.framed import Framed, Joint
from unisono.secagg.client.refusals import BadModel, Refusal, SecondContext, ShareUnreadable, StateRolledBack
from unisono.secagg.shared.messages import Closing, Deal, Quorum, Survivors
from unisono.secagg.shared.roster import Entry, Roster, manifest_digest
from unisono.secagg.shared.statements import advertise, upload

from . import notices, receipts
from .agreements import Agreement, agreement, spec_of
from .approvals import Approvals, Pinned
from .attempts import Attempts
from .bounding import Bounding
from .cache import Cache
from .downloads import Watch, unwatched
from .examining import Examiner
from .inviting import Invitation, Member, pins_of
from .masking import Progress, Shelf, Stored, mask
from .notices import Notice
from .training import Vector
from .vault import NO_EPSILON, Vault

NOT_JOINED = "not_joined"


class Objected(Error):
    """A refusal: audited, and the attempt is sat out.  `refusal_code` and the text may travel."""

    code = "objected"

    def __init__(self, refusal_code: str, text: str, complaint: bytes = b"") -> None:
        super().__init__(text)
        self.refusal_code, self.complaint = refusal_code, complaint


@dataclass(frozen=True, slots=True)
class Disk:
    """Where things lie."""

    vault: Vault
    attempts: Attempts
    cache: Cache
    examiner: Examiner
    at_rest: AtRest
    approvals: Approvals


class Protection:
    """All attempts of this site.  One thread."""

    def __init__(self, member: Member, disk: Disk, show: Callable[[Notice], None]) -> None:
        self._member, self._disk, self._show = member, disk, show
        self._store, self._vault = disk.attempts, disk.vault
        self._masked: dict[Attempt, Masked] = {}  # by this process, or found whole
        self._told: set[Attempt] = set()  # refusals that were sent

    # what is known

    def known(self, order: Secure) -> Known:
        """Return what is done of a leg, or why nothing of it will be."""
        if order.leg != "closing":
            if order.attempt in self._told:
                return Known(over=True)
            if said := self._store.refused(order.attempt) or self._stopped(order):
                code, _, text = said.partition(": ")
                return Known(Objection(code, text))
            if objection := self._without(order) or self._other_model(order):
                return Known(objection)
        if agreement(self._vault, order.attempt.run, order.plan) is None:
            objection = Objection(NOT_JOINED, "this site has not agreed to that plan")
            self.objects(order.attempt, objection)
            return Known(objection)
        return Known(
            cached=self._disk.cache.has(order.model, order.model_bytes),
            stored=order.leg in {"roster", "deal"} and self._stored(order) is not None,
        )

    def _stopped(self, order: Secure) -> str:
        """Return why the run is stopped here, unless somebody has approved its plan since."""
        said, wall = self._store.stop(order.attempt.run)
        answer = self._disk.approvals.answer(order.plan) if said else None
        if answer is None or answer.said != "approved" or answer.wall <= wall:
            return said
        self._store.resume(order.attempt.run)
        return ""

    def _without(self, order: Secure) -> Objection | None:
        """Row 3: a leg of an attempt that this site's disk does not know, or has left."""
        at = order.attempt
        if order.leg == "invitation" or self._store.state(at) is not None:
            return None
        code, text = WrongPhase.code, f'a message "{order.leg}" of an attempt that this site does not know'
        if self._store.is_left(at.run, at.round):
            code, text = StateRolledBack.code, "the file of open attempts is a copy; its attempts are left"
        self._refuse(order, code, text)
        return Objection(code, text)

    def _other_model(self, order: Secure) -> Objection | None:
        """Row 15: all legs are about the model of the invitation, for which row 5 was checked.

        The vector, too: it would be trained from another model than the others', under a context that says
        nothing of it.
        """
        state = self._store.state(order.attempt)
        if state is None or model_of(state) == order.model:
            return None
        text = f'invited to start from one model, and shown another, {order.model}, with "{order.leg}"'
        self._refuse(order, SecondContext.code, text)
        return Objection(SecondContext.code, text)

    def objects(self, at: Attempt, objection: Objection) -> None:
        """Write down, once, that this site does not do what it is asked in an attempt: in the clear, say."""
        if not self._store.refused(at):
            self._store.refuse(at, objection.code, objection.reason, "", stops_run=False)

    def told(self, at: Attempt) -> None:
        """Note that the coordinator heard why this site sits an attempt out: it is said once."""
        self._told.add(at)

    # the legs

    def reply(self, order: Secure) -> bytes:
        """Go one step on and return what to say; "" if there is nothing.  Raises Objected."""
        with self._refusing(order):
            match order.leg:
                case "invitation":
                    return self._invited(order)
                case "roster":
                    return self._rostered(order, Roster.decode(order.message))
                case "deal":
                    return self._sent(order)
                case "survivors":
                    return self._survived(order, Survivors.decode(order.message))
                case "quorum":
                    return self._certified(order, Quorum.decode(order.message))
                case "closing":
                    return self._closed(order, Closing.decode(order.message))

    def _invited(self, order: Secure) -> bytes:
        state = self._store.state(order.attempt)
        if state is not None:
            return self._advertised(order, state)
        found = self._agreement(order)
        setup = Invitation(self._member, self._store, order, self._compared(order)).setup(found)
        if not self._store.run(order.attempt.run).pins:
            self._pin(order)
        move = begin(setup, self._member.key, system_entropy)
        at = order.attempt
        _, message = self._store.apply(at, move, lambda db: self._store.begun(db, at), durable=False)
        return message

    def watch(self, order: Secure) -> Watch:
        """Return what looks at the model of an attempt while it arrives."""
        found = agreement(self._vault, order.attempt.run, order.plan)
        return unwatched if found is None else self._disk.examiner.watch(order.model, found.manifest)

    def _compared(self, order: Secure) -> tuple[tuple[str, str], ...]:
        """Return the digests of rosters that somebody compared, and where each was written down."""
        answer, wanted = self._disk.approvals.answer(order.plan), self._member.policy.roster_digest
        by_hand = answer.roster if answer is not None else ""
        named = (("policy roster_digest", wanted or ""), ("the roster approved with the plan", by_hand))
        return tuple((where, digest) for where, digest in named if digest)

    def _advertised(self, order: Secure, state: State) -> bytes:
        """Return the same keys again, for an invitation to the open attempt."""
        match state:
            case Advertised():
                return state.message()
            case Rostered(roster=roster):
                return own_entry(self._member, roster).encode()
            case Framed():
                return own_entry(self._member, state.frame.roster).encode()
        raise WrongPhase(state.phase, "an invitation")

    def _pin(self, order: Secure) -> None:
        """Hold fast to the roster of a run, and show it: what a pin is worth depends on who compared it."""
        run, policy, pins = order.attempt.run, self._member.policy, pins_of(order)
        digest, answer = manifest_digest(pins), self._disk.approvals.answer(order.plan)
        by_hand = answer is not None and answer.roster == digest
        case = "roster_digest" if policy.roster_digest else "by_hand" if by_hand else "nobody"
        self._store.pin(run, pins, case)
        sites = tuple((pin.name, pin.key) for pin in pins)
        in_policy = policy.roster_digest is not None
        self._disk.approvals.pin(order.plan, Pinned(run=run, digest=digest, sites=sites, in_policy=in_policy))
        self._show(notices.RosterPinned(run, len(pins), spoken(digest), case != "nobody"))

    def _rostered(self, order: Secure, roster: Roster) -> bytes:
        state, found = self._state(order), self._agreement(order)
        bounding = Bounding(found, self._store, self._disk.examiner, order)
        if not isinstance(state, Advertised):
            _, message = self._store.apply(order.attempt, state.receive_roster(roster, bounding.of(roster)))
            if message or not isinstance(state, Rostered):
                return message
            rostered: State = state
        else:
            self._check_entry(roster, state)
            # Not written by itself: nothing leaves between this state and `Shared`, which holds it.
            rostered, _ = state.receive_roster(roster, bounding.of(roster)).after(_unwritten)
        self._check_model(order, found)
        move = rostered.share(order.model, self._member.key, system_entropy)
        also = partial(self._store.bounded, at=order.attempt, bounds=bounding.proposed(roster))
        _, message = self._store.apply(order.attempt, move, also)
        return message

    def _check_entry(self, roster: Roster, state: Advertised) -> None:
        """Row 3: an entry that this site signed, and its disk does not know."""
        for entry in roster.entries:
            if entry.name == self._member.name and entry.ctx0 == state.entry.ctx0:
                check_own_statement(
                    advertise(entry.ctx0, entry.name, entry.keys),
                    entry.signature,
                    self._member.public,
                    (state.entry.signature,),
                )

    def _check_model(self, order: Secure, found: Agreement) -> None:
        """Row 14.  What is in the cache under a digest is of that digest."""
        examined = self._disk.examiner.examine(order.model, found.manifest)
        check_model(order.model, order.model, examined.difference, examined.finite)

    def other_bytes(self, order: Secure, why: PeerFault) -> Objected:
        """Row 14: write down that what came is not the model that was announced."""
        return self._refused(order, BadModel(str(why)))

    # the vector

    def wanted(self, order: Secure) -> Vector | None:
        """Return which vector an attempt needs, unless it is stored.  Raises Objected if it needs none."""
        codec = self._codec(order)
        if codec is None:
            with self._refusing(order):  # of `Advertised` and `Abandoned`
                self._state(order).receive_deal(Deal.decode(order.message))
            raise Fault("a state without a roster took a deal")
        key = _key(order, codec)
        return None if self._vault.update(key, "") else Vector(key, codec, self._context(key))

    def _context(self, key: UpdateKey) -> bytes:
        """Return what the file of a vector is bound to."""
        return encode("vector", key.run, key.round, self._member.name, key.model, key.spec)

    def _codec(self, order: Secure) -> bytes | None:
        match self._store.state(order.attempt):
            case Framed() as state:
                return state.frame.spec.codec
            case Rostered(roster=roster):
                return roster.spec.codec
        return None

    def _stored(self, order: Secure) -> Update | None:
        codec = self._codec(order)
        return None if codec is None else self._vault.update(_key(order, codec), "")

    def mask(self, order: Secure, progress: Progress) -> Masked | None:
        """Return the masked file; None if there is no vector, which has to be made first.  Raises Objected.

        The vector's digest is on the disk before its first masked byte can leave.
        """
        with self._refusing(order):
            vector = self._stored(order)
            if vector is None:
                return None
            state = self._committed(order, vector)
            shelf = Shelf(self._vault.updates, order.attempt)
            masked = self._masked.get(order.attempt) or shelf.find(vector.bytes)
            if masked is None or not (self._vault.updates / masked.file).exists():
                masked = self._make(order, vector, state, progress)
            if masked is not None:
                self._masked[order.attempt] = masked
            return masked

    def _committed(self, order: Secure, vector: Update) -> Committed | Uploaded:
        """Rows 17 to 20."""
        state = self._state(order)
        # Not written by itself: U1 is in the state below, and nothing leaves in between.
        ready, _ = state.receive_deal(Deal.decode(order.message)).after(_unwritten)
        move = ready.commit(bytes.fromhex(vector.sha256), vector.bytes)
        committed, _ = self._store.apply(order.attempt, move, partial(self._note_release, order, vector))
        if not isinstance(committed, Committed | Uploaded):
            raise WrongPhase(committed.phase, "a vector")
        return committed

    def _note_release(self, order: Secure, vector: Update, db: sqlite3.Connection) -> None:
        at = order.attempt
        self._vault.note(
            "released", run=at.run, round=at.round, attempt=at.attempt, model=order.model,
            vector=vector.sha256, bytes=vector.bytes, protection="secagg", epsilon=NO_EPSILON,
        )  # fmt: skip

    def _make(
        self, order: Secure, vector: Update, state: Committed | Uploaded, progress: Progress
    ) -> Masked | None:
        shelf = Shelf(self._vault.updates, order.attempt)
        path = self._vault.updates / vector.file
        layout = spec_of(state.frame.spec.codec)
        try:
            with SealedFile(path, self._disk.at_rest, self._context(vector.key)) as file:
                digest = mask(Stored(file, vector.sha256, layout), state.streams, shelf.part, progress)
        except Corrupt:
            self._vault.forget(vector.key)
            return None
        return shelf.place(digest, vector.bytes)

    def _sent(self, order: Secure) -> bytes:
        """All masked bytes are there: sign for them."""
        state, masked = self._state(order), self._masked.get(order.attempt)
        if masked is None:
            raise WrongPhase(state.phase, "the end of an upload that was not made")
        at = order.attempt

        def note(db: sqlite3.Connection) -> None:
            self._vault.note(
                "upload_signed", run=at.run, round=at.round, attempt=at.attempt, sha256=masked.sha256,
                bytes=masked.bytes, protection="secagg", epsilon=NO_EPSILON,
            )  # fmt: skip
            sent = (masked.sha256, masked.bytes)
            receipts.expect(db, (at.run, at.round), sent, "secagg", self._vault.wall())

        move = state.uploaded(bytes.fromhex(masked.sha256), self._member.key)
        _, message = self._store.apply(at, move, note)
        return message

    # the end of an attempt

    def _survived(self, order: Secure, survivors: Survivors) -> bytes:
        state = self._state(order)
        if isinstance(state, Ready | Committed):
            self._check_upload(state, survivors)

        def note(db: sqlite3.Connection) -> None:
            receipts.agree(db, (order.attempt.run, order.attempt.round), _updates_of(state, survivors))

        _, message = self._store.apply(
            order.attempt, state.receive_survivors(survivors, self._member.key), note
        )
        self._clear(order.attempt)  # the set is frozen, with this upload in it
        return message

    def _check_upload(self, state: Joint, survivors: Survivors) -> None:
        """Row 3: an upload that this site signed, and its disk does not know."""
        frame = state.frame
        for member in survivors.members:
            if member.number == frame.me:
                statement = upload(frame.ctx, state.u1, frame.spec.length, member.digest)
                check_own_statement(statement, member.signature, self._member.public, ())

    def _certified(self, order: Secure, quorum: Quorum) -> bytes:
        at = order.attempt

        def note(db: sqlite3.Connection) -> None:
            self._vault.note(
                "revealed", run=at.run, round=at.round, attempt=at.attempt,
                survivors=len(quorum.survivors), dropped=len(quorum.dropped),
            )  # fmt: skip

        _, message = self._store.apply(at, self._state(order).receive_quorum(quorum), note)
        return message

    def _closed(self, order: Secure, closing: Closing) -> bytes:
        at = order.attempt

        def note(db: sqlite3.Connection) -> None:
            self._vault.note("abandoned", run=at.run, round=at.round, attempt=at.attempt)

        move = self._state(order).abandon(closing, self._member.key)
        _, message = self._store.apply(at, move, note)
        self._clear(at)
        return message

    def round_over(self, run: RunId, round_: int) -> None:
        """Forget the secrets and files of a run's attempts up to this round."""
        self._forget(self._store.round_over(run, round_))

    def run_over(self, run: RunId) -> None:
        """Forget all of a run but that it was."""
        self._forget(self._store.run_over(run))

    def _forget(self, attempts: tuple[Attempt, ...]) -> None:
        for at in attempts:
            self._clear(at)
            self._told.discard(at)

    def _clear(self, at: Attempt) -> None:
        Shelf(self._vault.updates, at).clear()
        self._masked.pop(at, None)

    # refusals

    def _state(self, order: Secure) -> State:
        state = self._store.state(order.attempt)
        if state is None:
            raise WrongPhase("without that attempt", f'a message "{order.leg}"')
        return state

    def _agreement(self, order: Secure) -> Agreement:
        found = agreement(self._vault, order.attempt.run, order.plan)
        if found is None:
            raise Objected(NOT_JOINED, "this site has not agreed to that plan")
        return found

    @contextmanager
    def _refusing(self, order: Secure) -> Iterator[None]:
        """Turn what the protocol refuses into Objected, once it is written down."""
        try:
            yield
        except Refusal as refusal:
            raise self._refused(order, refusal) from refusal
        except (Refused, PeerFault) as wrong:  # out of turn, or unreadable
            self._refuse(order, wrong.code, str(wrong))
            raise Objected(wrong.code, str(wrong)) from wrong

    def _refused(self, order: Secure, refusal: Refusal) -> Objected:
        at, state = order.attempt, self._store.state(order.attempt)
        if isinstance(refusal, StateRolledBack):
            self._store.leave(at.run, at.round, str(refusal))
        self._refuse(order, refusal.code, str(refusal), refusal.peer or "", stops_run=refusal.stops_run)
        complaint = b""
        if isinstance(refusal, ShareUnreadable) and isinstance(state, Shared):
            complaint = state.complaint(refusal)
        return Objected(refusal.code, str(refusal), complaint)

    def _refuse(
        self, order: Secure, code: str, text: str, peer: str = "", *, stops_run: bool = False
    ) -> None:
        at = order.attempt
        self._store.refuse(at, code, text, peer, stops_run=stops_run)
        self._show(notices.SatOut(at.run, at.round, at.attempt, code, text, stops_run, order.plan))


def _key(order: Secure, codec: bytes) -> UpdateKey:
    return UpdateKey(order.attempt.run, order.attempt.round, order.model, sha256_hex(codec))


def own_entry(member: Member, roster: Roster) -> Entry:
    """Return this site's line of a roster that it accepted."""
    return roster.entry(roster.numbers[member.name])


def _updates_of(state: State, survivors: Survivors) -> list[tuple[ClientName, Digest]]:
    """Return whose updates, by which digests, are in a set of survivors."""
    if not isinstance(state, Framed):
        return []
    name = state.frame.roster.name
    return [(name(member.number), Digest(member.digest.hex())) for member in survivors.members]


def _unwritten(data: bytes) -> None:
    """Save nothing: the state leads on to one that holds it, before anything leaves."""
