"""A site of the fast tier: the real session, its real side of `secagg/1` and its real books, in memory.

A process is a generator: it hands the world what it waits for (`Want`) and is sent what came of it.  What
outlives it is the vault alone: the product's own tables, in a database that is no file.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from secagg_world import apply, identity
from sim_core_words import (
    Bye,
    Call,
    Fail,
    Fetch,
    FirstModel,
    Hello,
    Join,
    Moves,
    Poll,
    Put,
    Request,
    Sleep,
    Tell,
    Want,
    Words,
)
from sim_fate import Doom, Fate, Killed
from sim_plan import RUN
from sim_time import MachineClock

from unisono import plan as plans
from unisono.base.clock import Clock
from unisono.base.errors import Fault, PeerFault, Refused, Unavailable, Unreachable
from unisono.base.ids import ClientName, Digest
from unisono.client import session
from unisono.client.policy import Policy
from unisono.client.runtime import room
from unisono.client.runtime.approvals import Answer as Said
from unisono.client.runtime.approvals import Approvals, Pinned
from unisono.client.runtime.attempts import Attempts
from unisono.client.runtime.cache import Cache
from unisono.client.runtime.driver import FAULT_SECONDS
from unisono.client.runtime.examining import Examined, Examiner
from unisono.client.runtime.halt import Halted
from unisono.client.runtime.inviting import Member
from unisono.client.runtime.masking import Progress
from unisono.client.runtime.notices import Notice
from unisono.client.runtime.secure import Disk, Objected, Protection
from unisono.client.runtime.status import CoordinatorFault
from unisono.client.runtime.vault import Agreed, Vault
from unisono.client.session import (
    Answering,
    Attempt,
    BackingOff,
    Consider,
    Declines,
    Downloading,
    Fails,
    Greeting,
    Known,
    Left,
    Masked,
    Masking,
    Polling,
    Preparing,
    Replying,
    Secure,
    Sending,
    SendingModel,
    SendModel,
    Takes,
    Training,
    Update,
    UpdateKey,
    Uploading,
    Work,
    advance,
)
from unisono.codec import Spec
from unisono.crypto import AtRest, sha256_hex
from unisono.plan import Plan
from unisono.secagg.client import Committed, Uploaded
from unisono.secagg.shared.roster import Pin
from unisono.server.runtime import instructions as told
from unisono.tensors import Entry, Manifest

Story = Generator[Want, Any, session.Event]
MANIFEST = Manifest((Entry("w", (24,), "F32", True),), ("loss",))
FIRST = sha256_hex(b"the model of the plan's seed")
KEY = bytes(32)  # of the vault: what lies there is sealed, but no secret of anybody
LONGEST = 4.0  # seconds between two attempts to connect
NOWHERE = Path("/nonexistent/unisono")  # the folder of a site that has none
TO_NOBODY = "00"  # the recipient of updates that are not masked
POLICY = Policy(protections=("secagg", "sealed"), min_cohort=1)


class Paper(Vault):
    """A vault without a disk; its process dies, and its room ends, as the world says."""

    def __init__(self, clock: Clock, fate: Fate) -> None:
        self.folder, self._clock, self.updates, self._fate = NOWHERE, clock, NOWHERE, fate
        self.words: dict[Digest, Words] = {}  # vectors, by the digest of their bytes
        self.models: set[Digest] = set()
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._durable = True
        self._db.deserialize(_blank())

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        self._durable = durable  # no disk waits for it
        with self._fate.around(), super().transaction(durable=durable) as db:
            yield db

    def update(self, key: UpdateKey, recipient: str) -> Update | None:
        row = self._db.execute(
            "SELECT file, sha256, bytes FROM updates WHERE run = ? AND round = ? AND model = ? "
            "AND spec = ? AND recipient = ? AND state != 'over'",
            (key.run, key.round, key.model, key.spec, recipient),
        ).fetchone()
        return Update(key, *row) if row else None

    def store(self, key: UpdateKey, words: Words, recipient: str = "") -> Update:
        """Keep a vector, then the row that says so."""
        digest = sha256_hex(words)
        self.words[digest] = words
        update = Update(key, digest, digest, words.nbytes)
        self.finish(update, recipient)
        return update


class _First(Paper):
    def __init__(self) -> None:
        self.folder, self._fate, self._durable = NOWHERE, Fate(), True
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._migrate()


@cache
def _blank() -> bytes:
    """Return an empty vault of this version."""
    return _First()._db.serialize()


class Shelf(Cache):
    """The models that a site has."""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper

    def has(self, digest: Digest, plain: int | None = None) -> bool:
        return digest in self._paper.models


class Trusting(Examiner):
    """Models here have no bytes: there is nothing wrong with them."""

    def __init__(self) -> None: ...

    def examine(self, model: Digest, manifest: Manifest) -> Examined:
        return Examined(None, finite=True)

    def norm(self, model: Digest, manifest: Manifest) -> float:
        return 1.0


class Nobody(Approvals):
    """Nobody at this site was asked anything."""

    def __init__(self) -> None: ...

    def answer(self, digest: str) -> Said | None:
        return None

    def pin(self, digest: str, pinned: Pinned) -> None: ...


class Protected(Protection):
    """What the product does, with vectors that are no files."""

    def _make(
        self, order: Secure, vector: Update, state: Committed | Uploaded, progress: Progress
    ) -> Masked | None:
        assert isinstance(self._vault, Paper)
        words = self._vault.words[vector.sha256].copy()
        apply(state.streams, words)
        digest = sha256_hex(words)
        self._vault.words[digest] = words
        return Masked(digest, digest, words.nbytes)


@dataclass(eq=False)
class Site:
    """What a site has on its disk, and the process that works there, if one does."""

    name: str
    number: int
    clock: MachineClock
    plan: Plan
    want: Want | None = None  # what the process waits for; None: there is none
    fate: Fate = field(default_factory=Fate)
    slow: float = 0.0  # seconds that training takes
    mute: bool = False  # without progress
    raises: int = 0  # times that the task fails
    seen: list[Notice] = field(default_factory=list)
    left: Left | None = None
    lives: int = 0

    def __post_init__(self) -> None:
        self.paper = Paper(self.clock, self.fate)
        self._story: Generator[Want, Any, None] | None = None

    def start(self) -> None:
        """Begin a process."""
        self.fate.doom, self.left = Doom(), None
        self.lives += 1
        story = self._story = Process(self).live()
        self._go(lambda: next(story))

    def resume(self, value: object = None) -> None:
        """Give the process what it waited for, and let it go on to where it waits again."""
        story = self._story
        assert story is not None
        self._go(lambda: story.send(value))

    def fail(self, error: Exception) -> None:
        """Let what the process waits for fail."""
        story = self._story
        assert story is not None
        self._go(lambda: story.throw(error))

    def kill(self) -> None:
        if self._story is not None:
            self._story.close()
        self.want = self._story = None

    def _go(self, on: Callable[[], Want]) -> None:
        self.want = None
        try:
            self.want = on()
        except (StopIteration, Killed, sqlite3.OperationalError):  # one full at its start ends a process
            self._story = None


class Process:
    """One life."""

    def __init__(self, site: Site) -> None:
        self._site, self._paper, self._clock = site, site.paper, site.clock
        self._random = Random(site.number)  # noqa: S311 - it spreads clients out
        self._outcome: told.Outcome | None = None
        self._plan = plans.canonical(site.plan)
        self._digest = plans.digest(site.plan)

    def _protection(self) -> Protected:
        """Read what the last life wrote."""
        site, paper, key = self._site, self._paper, identity(ClientName(self._site.name))
        attempts = Attempts(paper, KEY, {"inode": site.name})
        ca = Digest("22" * 32)
        member = Member(ClientName(site.name), key, key.public, ca, POLICY, lambda plan, cohort: None)
        disk = Disk(paper, attempts, Shelf(paper), Trusting(), AtRest(KEY), Nobody())
        return Protected(member, disk, site.seen.append)

    def live(self) -> Generator[Want, Any, None]:
        self._secure = self._protection()
        state: session.State = Greeting()
        while not isinstance(state, Left):
            event = yield from self._event_of(state)
            state = advance(state, event, self._clock.ticks(), LONGEST)
        self._site.left = state

    def _event_of(self, state: session.Active | BackingOff) -> Story:
        """Do a state's work; what goes wrong is an event too, by the rules of `runtime.driver`."""
        try:
            return (yield from self._do(state))
        except Halted:
            return session.LeaveAsked()
        except Unreachable:
            return session.Lost(self._random.random())
        except CoordinatorFault:
            return session.Lost(self._random.random(), at_least=FAULT_SECONDS)
        except Unavailable as error:
            return session.Busy(error.retry_after, self._random.random())
        except sqlite3.OperationalError:
            if isinstance(state, Greeting):
                return session.Lost(self._random.random(), at_least=room.SECONDS)
            return session.Rests(room.SECONDS)
        except Objected as objected:
            return session.Failed(objected.refusal_code, str(objected), objected.complaint)
        except PeerFault as error:
            return session.Rejected(error.code, str(error))
        except Refused as error:
            return session.Refused(error.code, str(error))

    def _ask(self, request: Request) -> Generator[Want, Any, told.Instruction | None]:
        """Make a call; raise what the coordinator, or the connection, answered."""
        try:
            reply: told.Instruction | None = yield Call(self._site.name, request, self._clock.ticks())
        except Fault as error:
            raise CoordinatorFault(str(error)) from error
        return reply

    def _do(self, state: session.Active | BackingOff) -> Story:
        match state:
            case Greeting():
                yield from self._ask(Hello())
                return session.Greeted()
            case Polling(cursor=cursor):
                reply = yield from self._ask(Poll(cursor))
                assert reply is not None
                return self._told(reply)
            case Preparing(run=run):
                self._paper.accept(Agreed(run, self._plan, self._digest, MANIFEST.encode(), FIRST))
                self._paper.models.add(FIRST)
            case Answering(answer=answer):
                yield from self._answer(answer)
            case SendingModel(model=model):
                yield from self._ask(FirstModel(model))
            case BackingOff(until=until):
                yield Sleep(until)
            case session.Leaving():
                yield from self._ask(Bye())
            case _:
                return (yield from self._work(state))
        return session.Done()

    def _work(self, state: session.Active) -> Story:
        match state:
            case Downloading(work=work):
                yield from self._ask(Fetch(work.model))
                self._paper.models.add(work.model)
            case Training(work=work):
                return (yield from self._train(work))
            case Uploading(work=work, update=update):
                self._paper.release(update, "sealed")
                words = self._paper.words[update.sha256]
                yield from self._ask(Put(_at(work.attempt), update.sha256, words))
            case Replying(work=work):
                if message := self._secure.reply(work):
                    yield from self._ask(Tell(_at(work.attempt), message))
            case Masking(work=work):
                masked = self._secure.mask(work, lambda done, total: None)
                return session.Done() if masked is None else session.Wrapped(masked)
            case Sending(work=work, masked=masked):
                words = self._paper.words[masked.sha256]
                yield from self._ask(Put(_at(work.attempt), masked.sha256, words))
            case _:
                raise Fault(f"nobody does the work of {state}")
        return session.Done()

    def _answer(self, answer: object) -> Generator[Want, Any, None]:
        match answer:
            case Takes():
                yield from self._ask(Join(MANIFEST.encode(), FIRST))
            case Fails(attempt=attempt, code=code, text=text, forget=forget, complaint=complaint):
                if forget is not None:
                    self._paper.forget(forget)
                at = _at(attempt)
                yield from self._ask(Tell(at, complaint) if complaint else Fail(at, code, text))
                self._secure.told(attempt)
            case Declines(code=code, reason=reason):
                raise Fault(f"a site that takes every plan declines: {code}: {reason}")

    # what is asked

    def _told(self, reply: told.Instruction) -> session.Event:
        if reply.last is not None and reply.last != self._outcome:
            self._over(reply.last)
            self._outcome = reply.last
        instruction = read(reply.what, self._digest)
        return session.Instructed(reply.cursor, instruction, self._known(instruction))

    def _over(self, outcome: told.Outcome) -> None:
        if outcome.state == "published":
            self._paper.round_over(outcome.run, outcome.round)
            self._secure.round_over(outcome.run, outcome.round)
        else:
            self._paper.run_over(outcome.run)
            self._secure.run_over(outcome.run)

    def _known(self, instruction: session.Instruction) -> Known:
        match instruction:
            case Consider(run=run):
                return Known(prepared=self._paper.run(run) is not None)
            case SendModel(model=model):
                return Known(cached=model in self._paper.models)
            case Work():
                finished = self._paper.update(instruction.key, TO_NOBODY)
                return Known(finished=finished, cached=instruction.model in self._paper.models)
            case Secure():
                return self._secure.known(instruction)
        return Known()

    # the work

    def _train(self, work: session.Task) -> Story:
        site = self._site
        if site.raises:
            site.raises -= 1
            return session.Failed("task_error", "the task raised an error")
        end = self._clock.ticks() + site.slow
        while (left := end - self._clock.ticks()) > 0:
            yield Sleep(self._clock.ticks() + min(2.0, left))
            if not site.mute:
                yield from self._ask(Moves(_at(work.attempt)))
        if isinstance(work, Work):
            return session.Trained(self._paper.store(work.key, self._unit(work.spec), TO_NOBODY))
        if vector := self._secure.wanted(work):
            self._paper.store(vector.key, self._unit(vector.spec))
        return session.Trained(None)

    def _unit(self, spec: bytes) -> Words:
        words = np.zeros(Spec.decode(spec).words, np.uint64)
        words[self._site.number - 1] = 1
        return words


def read(what: told.Duty, plan: Digest) -> session.Instruction:
    """Return an instruction as the client's link reads it from the wire."""
    match what:
        case None:
            return session.Idle()
        case told.Consider(plan=text, cohort=cohort):
            return Consider(RUN, text, plan, cohort)
        case told.SendModel(model=model):
            return SendModel(RUN, model)
        case told.Work():
            at = Attempt(RUN, what.round, what.attempt)
            spec, idle = what.spec, what.idle_seconds
            return Work(at, what.what, what.plan, what.model, what.model_bytes, spec, sha256_hex(spec), idle)
        case told.Secure():
            return Secure(
                Attempt(RUN, what.round, what.attempt),
                what.what,
                what.plan,
                what.model,
                what.model_bytes,
                what.idle_seconds,
                tuple(Pin(ClientName(name), key) for name, key in what.manifest),
                what.certificates,
                what.message,
                session.leg_of(what.message),
            )


def _at(attempt: Attempt) -> tuple[int, int]:
    return attempt.round, attempt.attempt
