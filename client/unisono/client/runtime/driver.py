"""The main loop of a client: do what the session's state says, give it what came of that, again.

Safe to kill anywhere: the vault holds what must not be done twice, the coordinator repeats what is not done
yet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
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
    Pace,
    Polling,
    Preparing,
    Rejected,
    Renewing,
    Replying,
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

from . import notices
from .approvals import Approvals
from .cache import Cache
from .downloads import fetch, unwatched
from .halt import Halt, Halted
from .knowledge import Knowledge
from .link import Link, Outcome
from .notices import Notice
from .renewal import due, renew
from .secure import Objected, Protection
from .status import CoordinatorFault, HelloFirst
from .trainer_process import Moved, TaskFailure
from .training import Workbench
from .uploads import Parcel, file_reader, send
from .vault import Vault

POLL_SECONDS = 25.0
DUE_SECONDS = 1.0  # between two looks at the certificate
LOOK_SECONDS = 1.0  # a poll while somebody here has to look at a plan
FAULT_SECONDS = 2.0  # before a coordinator that broke down is asked again
CLOCK_TOLERANCE = 300.0
Show = Callable[[Notice], None]


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
    workbench: Workbench
    clock: Clock
    halt: Halt
    share_log_tail: bool = False


class Driver:
    """Runs one session.  One thread."""

    def __init__(self, parts: Parts, show: Show, random: Random) -> None:
        self._p, self._show, self._random = parts, show, random
        self._recipient, self._poll_seconds = b"", POLL_SECONDS
        self._considered: session.Consider | None = None
        self._undecided: dict[RunId, session.Consider] = {}  # somebody here has to look at them
        self._outcome: Outcome | None = None
        self._pace = Pace()
        self._trouble = ""
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
            return self._do(state)
        except Halted:
            return LeaveAsked()
        except Unreachable as error:
            self._trouble = str(error)
            return Lost(self._random.random())
        except CoordinatorFault as error:
            self._trouble = str(error)
            return Lost(self._random.random(), at_least=FAULT_SECONDS)
        except Unavailable as error:
            self._trouble = str(error)
            return Busy(error.retry_after, self._random.random())
        except TaskFailure as failure:
            return self._failed(state, failure)
        except Objected as objected:
            return Failed(objected.refusal_code, str(objected), objected.complaint)
        except PeerFault as error:
            self._show(notices.Refusal(error.code, str(error)))
            return Rejected(error.code, str(error))
        except Refused as error:
            if error.code not in {"wrong_phase", "hello_first"}:
                self._show(notices.Refusal(error.code, str(error)))
            return session.Refused(error.code, str(error))

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
                return self._reply(work)
            case Masking(work=work):
                return self._mask(work)
            case Sending(work=work, masked=masked):
                return self._send(work, masked)

    def _wait_or_end(self, state: Active | BackingOff) -> Event:
        match state:
            case Renewing():
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
        self._poll_seconds = min(POLL_SECONDS, found.long_poll_seconds or POLL_SECONDS)
        self._show(notices.Connected(found.federation, found.name, found.online, found.enrolled))
        if abs(found.wall - wall) > CLOCK_TOLERANCE:
            self._show(notices.ClocksDiffer(found.wall - wall))

    def _poll(self, cursor: int) -> Event:
        wait = min(LOOK_SECONDS, self._poll_seconds) if self._undecided else self._poll_seconds
        told = self._p.link.poll(cursor, wait)
        if told.outcome is not None and told.outcome != self._outcome:
            self._outcome = told.outcome
            self._over(told.outcome)
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
            self._p.vault.round_over(outcome.run, outcome.round)
            self._p.protection.round_over(outcome.run, outcome.round)
            self._show(notices.RoundOver(outcome.run, outcome.round, outcome.counted, outcome.survivors))
        else:
            self._undecided.pop(outcome.run, None)
            self._p.vault.run_over(outcome.run)
            self._p.protection.run_over(outcome.run)
            self._show(notices.RunOver(outcome.run, outcome.state, outcome.reason))

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
            self._p.workbench.prepare(run, asked.plan, asked.digest)
        elif agreed is not None:
            self._p.workbench.prepare(run, agreed.plan, agreed.digest)
        return Done()

    def _download(self, work: Task) -> Event:
        began = self._p.clock.ticks()
        report = self._reporter(work.attempt, "downloading", "download")
        try:
            watch = self._p.protection.watch(work) if isinstance(work, Secure) else unwatched
            fetch(self._p.link, self._p.cache, work.model, work.model_bytes, report, watch)
        except PeerFault as wrong:
            if isinstance(work, Secure):
                raise self._p.protection.other_bytes(work, wrong) from wrong
            raise
        self._p.workbench.keep(work.attempt.run, work.model, work.model_bytes)
        self._stepped(work, "download", work.model_bytes, began)
        return Done()

    def _train(self, work: Task) -> Event:
        began = self._p.clock.ticks()
        self._pace = Pace(began)
        beats = count(1)

        def moved(step: Moved) -> None:
            """Report it: each line means that something moved, even within one percent."""
            self._show(notices.Moved(*_round(work), step.stage, step.done, step.total))
            self._report(work.attempt, (step.stage, next(beats)), ("training", step.done, step.total))

        update = None
        if isinstance(work, Work):
            update = self._p.workbench.train(work, self._recipient, moved)
        elif vector := self._p.protection.wanted(work):
            self._p.workbench.keep_vector(work, vector, moved)
        self._stepped(work, "training" if work.what == "train" else "evaluation", 0, began)
        return Trained(update)

    def _reply(self, work: Secure) -> Event:
        message = self._p.protection.reply(work)
        if message:
            self._p.link.said(work.attempt, message)
        return Done()

    def _mask(self, work: Secure) -> Event:
        masked = self._p.protection.mask(work, self._reporter(work.attempt, "training", "masking"))
        return Done() if masked is None else Wrapped(masked)

    def _send(self, work: Secure, masked: Masked) -> Event:
        began = self._p.clock.ticks()
        parcel = Parcel("update", work.attempt, masked.sha256, masked.bytes)
        reader = file_reader(self._p.vault.updates / masked.file)
        send(self._p.link, parcel, reader, self._shower(work.attempt, "upload"))
        self._stepped(work, "upload", masked.bytes, began)
        return Done()

    def _upload(self, work: Work, update: session.Update) -> Event:
        began = self._p.clock.ticks()
        self._p.vault.release(update, "sealed")
        parcel = Parcel("update", work.attempt, update.sha256, update.bytes)
        report = self._shower(work.attempt, "upload")
        send(self._p.link, parcel, file_reader(self._p.vault.updates / update.file), report)
        self._stepped(work, "upload", update.bytes, began)
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
            self._shower(attempt, "upload"),
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

    # progress

    def _stepped(self, work: Task, what: notices.Step, size: int, began: float) -> None:
        seconds = self._p.clock.ticks() - began
        self._show(notices.Stepped(work.attempt.run, work.attempt.round, what, size, seconds))

    def _shower(self, attempt: Attempt, what: notices.Moving) -> Callable[[int, int], None]:
        """Return what shows a transfer.  An upload needs no report: the coordinator sees it."""
        return lambda done, total: self._show(notices.Moved(attempt.run, attempt.round, what, done, total))

    def _reporter(self, attempt: Attempt, stage: str, what: notices.Moving) -> Callable[[int, int], None]:
        self._pace = Pace(self._p.clock.ticks())
        return lambda done, total: self._moved(attempt, what, stage, done, total)

    def _moved(self, attempt: Attempt, what: notices.Moving, stage: str, done: int, total: int) -> None:
        """Show progress, and report it."""
        self._show(notices.Moved(attempt.run, attempt.round, what, done, total))
        self._report(attempt, (what, done), (stage, done, total))

    def _report(self, attempt: Attempt, mark: tuple[str, int], progress: tuple[str, int, int]) -> None:
        """Report progress at most once a second, and only if `mark` is another one than the last time.

        Raises WrongPhase if the attempt is over.  A coordinator that is away does not stop the work.
        """
        now = self._p.clock.ticks()
        if not self._pace.due(*mark, now):
            return
        self._pace = self._pace.told(*mark, now)
        try:
            self._p.link.progress(attempt, *progress)
        except HelloFirst:
            self._hello()
        except (Unavailable, CoordinatorFault) as error:
            self._trouble = str(error)


def _round(work: Task) -> tuple[RunId, int]:
    return work.attempt.run, work.attempt.round
