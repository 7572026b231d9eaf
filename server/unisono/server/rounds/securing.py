"""An attempt under secure aggregation, leg after leg, each closed when all that can come is there.

The protocol (`secagg.server`) says what may be accepted and what each client is told; this says how long
anybody is waited for.  Until the survivors are frozen a client that is lost is left out and the others go
on; from then on its members are needed: they are waited for, also when they are away for a while.
"""

from dataclasses import replace

from unisono.base.errors import Fault
from unisono.base.ids import ClientName, Digest
from unisono.plan import Plan
from unisono.secagg.server import Advertising, Agreeing, Closing, Revealing, Sharing, Stage, Uploading
from unisono.secagg.server.faults import CohortTooSmall, TooFewSurvivors
from unisono.secagg.server.stage import Step as Protected
from unisono.secagg.shared.laying import spec_of, terms_of
from unisono.secagg.shared.messages import Abandon, Agree, Answer, Complaint, Share, Upload
from unisono.secagg.shared.roster import Entry
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.terms import FEWEST, Terms

from .aggregating import summed
from .aside import Row, protected
from .attempts import fail_attempt
from .effects import Aggregate
from .events import (
    Aggregated,
    Event,
    Failure,
    Faulted,
    Lost,
    NotOpened,
    Returned,
    Said,
    TaskFailed,
    Tick,
)
from .phases import Aggregating, InRound, Leg, Run, Securing
from .result import Step, check_attempt, wrong_phase
from .wording import reasons

_LEGS: dict[type[Stage], Leg] = {
    Advertising: "advertising",
    Sharing: "sharing",
    Uploading: "uploading",
    Agreeing: "agreeing",
    Revealing: "revealing",
    Closing: "closing",
}
_SAYS: dict[type[Stage], str] = {
    Advertising: "advertised keys",
    Sharing: "shared",
    Uploading: "uploaded",
}


def securing(plan: Plan, run: Run, stage: InRound, phase: Securing, event: Event, now: float) -> Step:
    """Take a message, leave a client behind, open the sum, or wait on."""
    work = Work(plan, run, stage, phase, now)
    match event:
        case Said() | Faulted() | TaskFailed() | Aggregated() | Failure() | NotOpened():
            check_attempt(run, stage, event)
    match event:
        case Said():
            return work.said(event)
        case Faulted(client, code=code, text=text):
            return work.leave_out(client, code, text)
        case TaskFailed(client, code=code, text=text):
            return work.leave_out(client, code, f"task failed ({text})")
        case Lost(client, reason):
            return work.lost(client, reason)
        case Tick() if phase.deadline is not None and now >= phase.deadline:
            return work.late()
        case Tick() | Returned():
            return Step(run)
        case Aggregated() | Failure() | NotOpened() if phase.leg == "opening":
            return work.opened(event)
        case _:
            raise wrong_phase(run, event)


class Work:
    """One step: the protocol's stage as it changes, and the rows that it writes."""

    def __init__(self, plan: Plan, run: Run, stage: InRound, phase: Securing, now: float) -> None:
        self._plan, self._run, self._round, self._phase, self._now = plan, run, stage, phase, now
        self._stage = protected(run)
        self._rows: list[Row] = []

    # what happened

    def said(self, event: Said) -> Step:
        """Hand a message in; the same one again changes nothing."""
        self._take(_hand_in(self._stage, event))
        if not self._rows:
            return Step(self._run)
        match event.message:
            case Upload():
                updates = (*self._phase.updates, (event.client, event.digest))
                self._phase = replace(self._phase, updates=updates)
                self._begin_grace()
            case Complaint():
                self._run = replace(self._run, apart=self._stage.book.apart)
        return self._go_on()

    def leave_out(self, client: ClientName, code: str, reason: str) -> Step:
        """Go on without a client; a survivor's messages are still taken when it comes back."""
        book, phase = self._stage.book, self._phase
        if client not in phase.cohort or book.is_out(client):
            return Step(self._run)
        self._take(self._stage.leave_out(client, code))
        if client not in self._survivors():
            self._phase = replace(phase, dropped=(*phase.dropped, (client, reason)))
        return self._go_on()

    def lost(self, client: ClientName, reason: str) -> Step:
        """Leave out who is gone, but not an update that was acknowledged: t others can open it."""
        if self._phase.leg == "uploading" and client in dict(self._phase.updates):
            return Step(self._run)
        return self.leave_out(client, "lost", reason)

    def late(self) -> Step:
        """Go on without those who are slower than the plan's grace; give up without a quorum."""
        phase = self._phase
        self._phase = replace(phase, deadline=None)
        if phase.leg == "agreeing":
            return self._give_up(
                self._too_few("agreed", len(self._stage.book.agreements), self._terms().threshold)
            )
        slow = f"slower than the grace of {self._plan.rounds.grace_seconds:g} s"
        for client in sorted(phase.waiting):
            self._take(self._stage.leave_out(client, "slow"))
            self._phase = replace(self._phase, dropped=(*self._phase.dropped, (client, slow)))
        return self._go_on()

    def opened(self, event: Aggregated | Failure | NotOpened) -> Step:
        """Publish the round; or ask for more answers; or fail."""
        match event:
            case Aggregated():
                phase = Aggregating(self._phase.cohort, self._certified(), self._phase.dropped)
                return summed(self._plan, self._run, self._round, phase, event, self._now)
            case NotOpened() if self._stage.waiting_for():
                more = len(self._stage.book.answers) + 1
                self._phase = replace(self._phase, leg="revealing", needed=more)
                return self._go_on()
            case NotOpened(blamed=blamed) if blamed:
                self._run = replace(self._run, faulty=self._run.faulty | {blamed})
        return self._give_up(event.reason)

    # what follows

    def _go_on(self) -> Step:
        """Close every leg that is complete; say what is waited for, or that too few are left."""
        if self._phase.leg == "opening":  # a late message or loss; the sum is being opened already
            return self._step("opening")
        while True:
            before = self._stage
            try:
                done = self._advance()
            except (CohortTooSmall, TooFewSurvivors) as error:
                return self._give_up(str(error))
            if done is not None:
                return done
            if self._stage is before:
                return self._step()

    def _advance(self) -> Step | None:
        """Take one decision, if one is due."""
        match self._stage:
            case Advertising() | Sharing() | Uploading():
                return self._collect()
            case Agreeing() as stage:
                if len(stage.book.agreements) >= self._terms().threshold:
                    self._take(stage.certify())
                    self._phase = replace(self._phase, deadline=None)  # theirs who might not have come back
                elif not stage.waiting_for() and self._phase.deadline is None:
                    patience = self._now + self._plan.cohort.wait_seconds
                    self._phase = replace(self._phase, deadline=patience)
            case Revealing() as stage:
                if stage.enough and len(stage.book.answers) >= self._phase.needed:
                    return self._open()
            case Closing() as stage if stage.certificate is not None:
                return self._failed(self._phase.reason)
        return None

    def _collect(self) -> Step | None:
        """Fail as soon as too few can be left, so that nobody trains for nothing; freeze when all is in."""
        stage, waiting = self._stage, self._stage.waiting_for()
        here = len(_done(stage)) + len(waiting)
        if here < (minimum := self._terms(here).minimum):
            return self._give_up(self._too_few(_SAYS[type(stage)], here, minimum))
        if waiting:
            return None
        match stage:
            case Advertising():
                spec = self._spec(here)
                self._take(stage.freeze_roster(spec, self._run.latest))
            case Sharing():
                self._take(stage.freeze_shares())
            case _:
                self._take(stage.freeze_survivors())
                self._spare()
        self._phase = replace(self._phase, deadline=None)
        return None

    def _spare(self) -> None:
        """Wait for no word of survivors that went away after their upload; one that comes back may say it."""
        for client in sorted(self._run.away & set(self._survivors())):
            self._take(self._stage.leave_out(client, "lost"))

    def _open(self) -> Step:
        run, stage = self._run, self._round
        order = Aggregate(
            stage.round,
            stage.attempt,
            stage.what,
            self._terms().clients,
            self._certified(),
            run.latest,
            run.bounds,
            run.state,
            masked=True,
        )
        return replace(self._step("opening"), effects=(order,))

    def _give_up(self, reason: str) -> Step:
        """Fail the attempt; once U1 is frozen only when enough clients have signed that it stays closed.

        From then on an upload may be signed, though its statement was lost on the way.  A certified set needs
        no closing: its sum may be asked for again, and no other.
        """
        book, phase = self._stage.book, self._phase
        last = self._round.attempt >= self._plan.rounds.attempts
        if last or not book.u1 or book.certified or isinstance(self._stage, Closing):
            return self._failed(reason)
        self._take(self._stage.close())
        self._phase = replace(phase, deadline=None, reason=reason)
        return self._go_on()

    def _failed(self, reason: str) -> Step:
        run = self._step().run
        step = fail_attempt(self._plan, run, self._round, reason, self._now)
        return replace(step, rows=(*self._rows, *step.rows))

    def _step(self, leg: Leg | None = None) -> Step:
        """Return what has changed, as a step."""
        waiting = frozenset(self._stage.waiting_for()) if leg is None else frozenset[ClientName]()
        phase = replace(self._phase, leg=leg or _LEGS[type(self._stage)], waiting=waiting)
        run = replace(
            self._run,
            stage=replace(self._round, phase=phase),
            aside=replace(self._run.aside, protected=self._stage),
        )
        return Step(run, rows=tuple(self._rows))

    def _take(self, change: Protected) -> None:
        self._stage = change.after(
            lambda body: self._rows.append(Row(self._round.round, self._round.attempt, body))
        )

    def _begin_grace(self) -> None:
        rounds, phase = self._plan.rounds, self._phase
        if phase.deadline is None and rounds.wait == "quorum" and len(phase.updates) >= self._terms().minimum:
            self._phase = replace(phase, deadline=self._now + rounds.grace_seconds)

    def _terms(self, clients: int = 0) -> Terms:
        frozen = self._stage.book.frozen
        if frozen is not None:
            return frozen.spec.terms
        return terms_of(self._plan, max(clients, FEWEST), len(self._run.roster))

    def _spec(self, clients: int) -> Spec:
        layout = self._run.aside.layout
        if layout is None:
            raise Fault("a round began without a manifest")
        stage, sites = self._round, len(self._run.roster)
        return spec_of(self._plan, layout, stage.what, stage.round, clients, sites, self._run.bounds)

    def _survivors(self) -> tuple[ClientName, ...]:
        return tuple(client for client, _ in self._certified())

    def _certified(self) -> tuple[tuple[ClientName, Digest], ...]:
        """Return U2, by name."""
        book = self._stage.book
        return tuple((book.roster.name(number), Digest(digest.hex())) for number, digest in book.u2)

    def _too_few(self, what: str, found: int, wanted: int) -> str:
        why = f": {reasons(self._phase.dropped)}" if self._phase.dropped else ""
        return f"{found} of {len(self._phase.cohort)} {what}, {wanted} needed{why}"


def _done(stage: Stage) -> tuple[ClientName, ...]:
    """Return those taking part whose message of the leg is here."""
    book = stage.book
    match stage:
        case Advertising():
            return tuple(entry.name for entry in book.entries if not book.is_out(entry.name))
        case Sharing():
            return book.roster.names(book.present(tuple(number for number, _ in book.shares)))
        case _:
            return book.roster.names(book.present(tuple(number for number, _ in book.uploads)))


def _hand_in(stage: Stage, event: Said) -> Protected:
    client = event.client
    match event.message:
        case Entry() as entry:
            return stage.advertise(client, entry)
        case Share() as share:
            return stage.share(client, share)
        case Complaint() as complaint:
            return stage.complain(client, complaint)
        case Upload() as upload:
            return stage.upload(client, upload, event.bytes, bytes.fromhex(event.digest))
        case Agree() as agree:
            return stage.agree(client, agree)
        case Answer() as answer:
            return stage.reveal(client, answer)
        case Abandon() as abandon:
            return stage.abandon(client, abandon)
