"""The main loop of a client: do what the session's state says, give it what came of that, again.

Safe to kill anywhere: the vault holds what must not be done twice, the coordinator repeats what is not done
yet.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from random import Random

from unisono.base.clock import Clock
from unisono.base.errors import PeerFault, Refused, Unavailable, Unreachable
from unisono.base.ids import Digest, RunId
from unisono.client import session
from unisono.client.config import Config
from unisono.client.session import (
    Active,
    Answer,
    Answering,
    Attempt,
    BackingOff,
    Busy,
    Declines,
    Done,
    Downloading,
    Event,
    Failed,
    Fails,
    Greeted,
    Greeting,
    Instructed,
    LeaveAsked,
    Leaving,
    Left,
    Looks,
    Lost,
    Masked,
    Masking,
    Polling,
    Preparing,
    Rejected,
    Renewing,
    Replying,
    Rests,
    Secure,
    Sending,
    SendingModel,
    State,
    Takes,
    Task,
    Trained,
    Training,
    Uploading,
    Work,
    Wrapped,
    advance,
)

from . import notices, room
from .allowance import Allowance, Resting
from .approvals import Approvals
from .cache import Cache
from .diagnosis import reason
from .downloads import fetch, unwatched
from .halt import Halt, Halted
from .knowledge import Knowledge
from .link import Link, Outcome, Told
from .receipts import Receipts, over
from .renewal import due, renew
from .reporting import Reporter, Show
from .secure import Objected, Protection
from .status import CoordinatorFault
from .trainer_process import TaskFailure
from .training import Workbench
from .uploads import Parcel, file_reader, send
from .vault import POLICY, SOMEBODY, Vault

POLL_SECONDS = 25.0
RENEW_SECONDS = 60.0  # until a certificate that could not be renewed is asked for again
DUE_SECONDS = 1.0  # between two looks at the certificate
LOOK_SECONDS = 1.0  # a poll while somebody here has to look at a plan
MODEL_IDLE_SECONDS = 10.0  # at least this a coordinator that waits for a first model is patient
FAULT_SECONDS = 2.0  # before a coordinator that broke down is asked again
CLOCK_TOLERANCE = 300.0
RIDES = 64 << 10  # bytes of an answer that a waiting question carries: it is in memory for the whole wait


@dataclass(frozen=True, slots=True)
class Parts:
    """What a driver works with."""

    folder: Path
    config: Config
    link: Link
    vault: Vault
    cache: Cache
    knowledge: Knowledge
    protection: Protection
    approvals: Approvals
    receipts: Receipts
    workbench: Workbench
    allowance: Allowance
    clock: Clock
    halt: Halt
    share_log_tail: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a poll, and the updates that were kept here when it was asked."""

    told: Told
    kept: tuple[tuple[RunId, int], ...]


class Driver:
    """Runs one session.  One thread."""

    def __init__(self, parts: Parts, show: Show, random: Random) -> None:
        self._p, self._show, self._random = parts, show, random
        self._recipient, self._poll_seconds = b"", POLL_SECONDS
        self._considered: session.Consider | None = None
        self._undecided: dict[RunId, session.Consider] = {}  # somebody here has to look at them
        self._outcome: Outcome | None = None
        self._heard: Heard | None = None  # told already, when something was said
        self._trouble = ""
        self._tell = Reporter(parts.link, parts.clock, show, self._hello, self._troubled)
        self._due, self._look_again = False, float("-inf")

    def run(self) -> Left:
        """Take part until asked to leave, or until nothing more can succeed."""
        state: State = Greeting()
        self._p.workbench.warm()
        try:
            while not isinstance(state, Left):
                state = self.turn(state)
        finally:
            self._p.workbench.stop()
            self._p.link.close()
        return state

    def turn(self, state: Active | BackingOff) -> State:
        """Do a state's work and return the state that follows."""
        event = self._event_of(state)
        return advance(state, event, self._p.clock.ticks(), self._p.config.reconnect_seconds)

    def _event_of(self, state: Active | BackingOff) -> Event:
        """Do a state's work; every error becomes an event, except those that mean this process is broken."""
        try:
            return self._tried(state)
        except Halted:
            return LeaveAsked()
        except (OSError, sqlite3.Error) as error:  # also of a notice of other trouble, on its way to a person
            if not room.is_full(error, self._p.folder):
                raise
            return self._no_room(state)

    def _tried(self, state: Active | BackingOff) -> Event:
        try:
            return self._rest(state) or self._do(state)
        except Resting:  # the hours ended in the middle of a transfer
            return Rests(0.0)
        except (Unavailable, CoordinatorFault) as error:
            return self._later(error)
        except TaskFailure as error:
            return self._no_room(state) if room.is_full(error, self._p.folder) else self._failed(state, error)
        except Objected as objected:
            return Failed(objected.refusal_code, str(objected), objected.complaint)
        except PeerFault as error:
            self._show(notices.Refusal(error.code, str(error)))
            return Rejected(error.code, str(error))
        except Refused as error:
            if error.code not in {"wrong_phase", "hello_first"}:
                self._show(notices.Refusal(error.code, str(error)))
            return session.Refused(error.code, str(error))

    def _later(self, error: Unavailable | CoordinatorFault) -> Event:
        parts, roll = self._p, self._random.random()
        self._trouble = reason(error, parts.folder, parts.config.coordinator, parts.clock.wall())
        match error:
            case Unreachable():
                return Lost(roll)
            case CoordinatorFault():
                return Lost(roll, at_least=FAULT_SECONDS)
        return Busy(error.retry_after, roll)

    def _no_room(self, state: Active | BackingOff) -> Event:
        """Wait for room on this site's disk: what was done is asked for again, from what is written."""
        self._trouble = f"the disk of {self._p.folder} is full; free some of it"
        match state:
            case BackingOff():
                return LeaveAsked() if self._p.halt.waited(room.SECONDS) else Done()
            case Greeting():
                return Lost(self._random.random(), at_least=room.SECONDS)
        return Rests(room.SECONDS)

    def _rest(self, state: Active | BackingOff) -> Rests | None:
        """Say that a transfer has to wait for the site's hours, if it has; everything else goes on."""
        match state:
            case Downloading(work=work) | Uploading(work=work) | Sending(work=work):
                attempt, idle_seconds = work.attempt, work.idle_seconds
            case SendingModel(run=run):
                attempt, idle_seconds = Attempt(run, 0, 0), MODEL_IDLE_SECONDS
            case _:
                return None
        allowance = self._p.allowance
        if not (seconds := allowance.rest(idle_seconds)):
            return None
        self._tell.rests(attempt, str(allowance.hours), allowance.until())
        return Rests(seconds)

    def _do(self, state: Active | BackingOff) -> Event:
        match state:
            case Greeting():
                return self._greet()
            case Polling(cursor=cursor):
                return self._poll(cursor)
            case Preparing(run=run):
                return self._prepare(run)
            case Answering(answer=answer):
                return self._answer(answer)
            case SendingModel(run=run, model=model):
                return self._send_model(run, model)
            case Downloading() | Training() | Uploading() | Replying() | Masking() | Sending():
                return self._work(state)
        return self._wait_or_end(state)

    def _work(self, state: Downloading | Training | Uploading | Replying | Masking | Sending) -> Event:
        match state:
            case Downloading(work=work):
                return self._download(work)
            case Training(work=work):
                return self._train(work)
            case Uploading(work=work, update=update):
                return self._upload(work, update)
            case Replying(work=work):
                return self._reply(state, work)
            case Masking(work=work):
                return self._mask(work)
            case Sending(work=work, masked=masked):
                return self._send(work, masked)

    def _wait_or_end(self, state: Active | BackingOff) -> Event:
        match state:
            case Renewing():
                # Whose own clock is wrong finds the new one expired, too: not with every poll.
                self._due, self._look_again = False, self._p.clock.ticks() + RENEW_SECONDS
                not_after = renew(self._p.link, self._p.folder, self._p.clock.wall())
                self._look_again = float("-inf")
                self._show(notices.Renewed(not_after))
            case BackingOff(until=until):
                seconds = max(0.0, until - self._p.clock.ticks())
                if self._trouble:
                    self._show(notices.CannotReach(self._trouble, seconds))
                    self._trouble = ""
                self._p.halt.wait(seconds)
            case Leaving():
                self._p.workbench.stop()
                self._p.link.leaving()
        return Done()

    # the conversation

    def _greet(self) -> Event:
        link = self._p.link
        link.open()
        self._hello()
        return Greeted()

    def _hello(self) -> None:
        """Say hello on the open connection, and learn whom to seal updates to."""
        link, wall = self._p.link, self._p.clock.wall()
        found = link.hello()
        self._recipient = link.sealing_public(found, wall)
        self._p.receipts.certified(found.receipts_certificate)
        self._poll_seconds = min(POLL_SECONDS, found.long_poll_seconds or POLL_SECONDS)
        self._show(notices.Connected(found.federation, found.name, found.online, found.enrolled))
        if abs(found.wall - wall) > CLOCK_TOLERANCE:
            self._show(notices.ClocksDiffer(found.wall - wall))

    def _ask(self, cursor: int, said: tuple[Attempt, bytes] | None = None) -> "Heard":
        wait = min(LOOK_SECONDS, self._poll_seconds) if self._undecided else self._poll_seconds
        kept = self._p.vault.kept()
        return Heard(self._p.link.poll(cursor, wait, self._p.receipts.due(kept), said), kept)

    def _poll(self, cursor: int) -> Event:
        heard, self._heard = self._heard or self._ask(cursor), None
        told, kept = heard.told, heard.kept
        self._p.receipts.take(told.receipts, told.instruction, told.outcome)
        if told.outcome is not None and told.outcome != self._outcome:
            self._over(told.outcome)
            self._outcome = told.outcome
        for run, round_ in over(told.receipts, kept):  # the outcome is of one run; there may be several
            self._round_over(run, round_)
        instruction = self._decided() if isinstance(told.instruction, session.Idle) else told.instruction
        known = self._p.knowledge.of(instruction, self._recipient.hex())
        if known.objection is not None and isinstance(instruction, session.Work):
            self._p.protection.objects(instruction.attempt, known.objection)
        if isinstance(instruction, session.Consider):
            self._considered = instruction
            asked = self._undecided.pop(instruction.run, None)
            if known.looking:
                self._undecided[instruction.run] = instruction
            if known.looking and asked is None:
                self._show(notices.PlanWaits(instruction.run, instruction.digest))
        return Instructed(told.cursor, instruction, known, told.renew or self._is_due())

    def _is_due(self) -> bool:
        """Tell whether the certificate is to be renewed; it is looked at once a second, not once a call."""
        now = self._p.clock.ticks()
        if now >= self._look_again:
            self._due, self._look_again = due(self._p.folder, self._p.clock.wall()), now + DUE_SECONDS
        return self._due

    def _decided(self) -> session.Instruction:
        """Return the plan that somebody here has looked at by now; it was asked about once."""
        for asked in self._undecided.values():
            if self._p.approvals.answer(asked.digest) is not None:
                return asked
        return session.Idle()

    def _over(self, outcome: Outcome) -> None:
        """Tidy up after a round or a run."""
        if outcome.state == "published":
            self._round_over(outcome.run, outcome.round)
            self._show(notices.RoundOver(outcome.run, outcome.round, outcome.counted, outcome.survivors))
        else:
            self._undecided.pop(outcome.run, None)
            self._p.vault.run_over(outcome.run)
            self._p.protection.run_over(outcome.run)
            self._show(notices.RunOver(outcome.run, outcome.state, outcome.reason))

    def _round_over(self, run: RunId, round_: int) -> None:
        self._p.vault.round_over(run, round_)
        self._p.protection.round_over(run, round_)

    def _answer(self, answer: Answer) -> Event:
        match answer:
            case Takes(run=run):
                plan = self._p.workbench.announce(run, self._p.link)
                self._show(notices.PlanAccepted(run, plan.task, plan.rounds.count, plan.protection.mode))
            case Declines():
                self._decline(answer)
            case Looks(run=run):
                self._p.link.looking(run)  # with every poll: a coordinator that lost us has forgotten it
            case Fails():
                self._fail(answer)
        return Done()

    def _fail(self, answer: Fails) -> None:
        if answer.forget is not None:
            self._p.vault.forget(answer.forget)
        if answer.complaint:
            self._p.link.said(answer.attempt, answer.complaint)
        else:
            self._p.link.failed(answer)
        self._p.protection.told(answer.attempt)

    def _decline(self, answer: Declines) -> None:
        asked = self._considered
        if asked is not None and asked.run == answer.run:
            objection = session.Objection(answer.code, answer.reason)
            self._p.vault.decline(asked.run, asked.plan, asked.digest, objection)
        self._show(notices.PlanDeclined(answer.run, answer.reason))
        self._p.link.declined(answer)

    # the work

    def _prepare(self, run: RunId) -> Event:
        """Make the model of the plan's seed, for a plan just considered or for one agreed to earlier."""
        agreed, asked = self._p.vault.run(run), self._considered
        if asked is not None and asked.run == run:
            answer = self._p.approvals.answer(asked.digest)
            by = SOMEBODY if answer is not None and answer.said == "approved" else POLICY
            self._p.workbench.prepare(run, asked.plan, asked.digest, by)
        elif agreed is not None:
            self._p.workbench.prepare(run, agreed.plan, agreed.digest)
        return Done()

    def _download(self, work: Task) -> Event:
        began, allowance = self._p.clock.ticks(), self._p.allowance
        report = self._tell.of(work.attempt, "downloading", "download")

        def moved(done: int, total: int) -> None:
            report(done, total)
            if done < total:
                allowance.check()

        try:
            watch = self._p.protection.watch(work) if isinstance(work, Secure) else unwatched
            fetch(self._p.link, self._p.cache, work.model, work.model_bytes, moved, watch)
        except PeerFault as wrong:
            if isinstance(work, Secure):
                raise self._p.protection.other_bytes(work, wrong) from wrong
            raise
        self._p.workbench.keep(work.attempt.run, work.model, work.model_bytes)
        self._tell.stepped(work, "download", work.model_bytes, began)
        return Done()

    def _train(self, work: Task) -> Event:
        began, moved = self._p.clock.ticks(), self._tell.of_training(work)
        update = None
        if isinstance(work, Work):
            update = self._p.workbench.train(work, self._recipient, moved)
        elif vector := self._p.protection.wanted(work):
            self._p.workbench.keep_vector(work, vector, moved)
        self._tell.stepped(work, "training" if work.what == "train" else "evaluation", 0, began)
        return Trained(update)

    def _reply(self, state: Replying, work: Secure) -> Event:
        """Say what a leg wants; if there is nothing to be done before the next one, ask for that with it."""
        message = self._p.protection.reply(work)
        onward = advance(state, Done(), self._p.clock.ticks())
        if 0 < len(message) <= RIDES and isinstance(onward, Polling):
            self._heard = self._ask(state.cursor, (work.attempt, message))
        elif message:
            self._p.link.said(work.attempt, message)
        return Done()

    def _mask(self, work: Secure) -> Event:
        masked = self._p.protection.mask(work, self._tell.of(work.attempt, "training", "masking"))
        return Done() if masked is None else Wrapped(masked)

    def _send(self, work: Secure, masked: Masked) -> Event:
        began = self._p.clock.ticks()
        parcel = Parcel("update", work.attempt, masked.sha256, masked.bytes)
        reader = file_reader(self._p.vault.updates / masked.file)
        send(self._p.link, parcel, reader, self._tell.shower(work.attempt, "upload"), self._p.allowance)
        self._tell.stepped(work, "upload", masked.bytes, began)
        return Done()

    def _upload(self, work: Work, update: session.Update) -> Event:
        began = self._p.clock.ticks()
        self._p.vault.release(update, "sealed")
        parcel = Parcel("update", work.attempt, update.sha256, update.bytes)
        report, reader = (
            self._tell.shower(work.attempt, "upload"),
            file_reader(self._p.vault.updates / update.file),
        )
        send(self._p.link, parcel, reader, report, self._p.allowance)
        self._tell.stepped(work, "upload", update.bytes, began)
        return Done()

    def _send_model(self, run: RunId, model: Digest) -> Event:
        size = self._p.cache.plain_bytes(model)
        self._p.vault.model_leaves(run, model, size)
        attempt = Attempt(run, 0, 0)
        parcel = Parcel("model", attempt, model, size)
        send(
            self._p.link,
            parcel,
            lambda offset: self._p.cache.read(model, size, offset),
            self._tell.shower(attempt, "upload"),
            self._p.allowance,
        )
        return Done()

    def _failed(self, state: State, failure: TaskFailure) -> Event:
        """Word a failure: our text for the coordinator, everything for the site."""
        attempt = state.work.attempt if isinstance(state, Training) else Attempt(RunId(""), 0, 0)
        text, detail = str(failure), failure.detail
        self._show(notices.WorkFailed(attempt.run, attempt.round, failure.failure, text, detail))
        if isinstance(state, Training) and failure.failure == "bad_model":
            self._p.cache.remove(state.work.model)
        return Failed(failure.failure, f"{text}: {detail}" if self._p.share_log_tail and detail else text)

    def _troubled(self, why: str) -> None:
        self._trouble = why
