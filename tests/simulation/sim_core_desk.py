"""The coordinator of the fast tier: the real round machine and the real server side of `secagg/1`.

What is written is what the product writes, in its own encoding; a new life begins from that alone.  What a
runtime does around the machine (`server.runtime`) is done here without a loop, a database or a disk.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
from secagg_world import apply, identity
from sim_book import Violation
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
    Tell,
    Words,
)
from sim_fate import Disk, Doom, Killed
from sim_house import Saved
from sim_plan import BEAT, IDLE, LONG_POLL, RUN
from sim_time import MachineClock

from unisono import plan as plans
from unisono.base.errors import Error, Fault, NotEnrolled, NotFound, Refused, Unavailable, WrongPhase
from unisono.base.ids import ClientName, Digest
from unisono.crypto import encode as framed
from unisono.crypto import sha256_hex
from unisono.plan import Plan
from unisono.secagg.server import Revealing, open_masks
from unisono.secagg.server.faults import BadShares, BadVault, Blamed, TooFewShares
from unisono.secagg.shared.messages import Upload
from unisono.secagg.shared.reading import read_up
from unisono.server.rounds import (
    Aggregate,
    Aggregated,
    Effect,
    Event,
    Failure,
    Faulted,
    Forget,
    InRound,
    Joined,
    Lost,
    ModelReceived,
    NotOpened,
    Offered,
    Prune,
    Returned,
    RoundPublished,
    Row,
    Run,
    RunEnded,
    Said,
    Step,
    StopAsked,
    TaskFailed,
    Tick,
    Uploaded,
    Waiting,
    begin,
    decode,
    decode_effect,
    encode,
    encode_effect,
    expects,
    next_deadline,
    protected,
    revive,
    step,
    waiting_sentence,
)
from unisono.server.runtime.clients import _works
from unisono.server.runtime.clock import RunClock
from unisono.server.runtime.instructions import Instruction
from unisono.server.runtime.lineage import Lineage
from unisono.server.runtime.presence import Greeting, Presence
from unisono.server.store import Change
from unisono.tensors import Manifest

if TYPE_CHECKING:
    from unisono.server.runtime.driver import Driver

OFFERS = Greeting("sim", 1, frozenset({"units"}), frozenset({"sealed", "secagg"}), frozenset({"fedavg"}))
RIPE = 0.001  # seconds after a deadline at which it has surely passed
Spooled = tuple[int, int, str, Digest]  # round, attempt, site, digest


@dataclass
class Books:
    """All that outlives the process: texts and bytes as the store keeps them, and files by their names."""

    machine: str
    now: float = 0.0
    rows: list[Row] = field(default_factory=list)
    effects: dict[int, str] = field(default_factory=dict)
    ordered: int = 0
    layouts: dict[Digest, bytes] = field(default_factory=dict)
    spool: dict[Spooled, Words] = field(default_factory=dict)
    models: dict[Digest, int] = field(default_factory=dict)  # and the round that made it
    gone: set[str] = field(default_factory=set)  # revoked

    def write(self, change: Change) -> tuple[int, ...]:
        """Write a change whole; return the numbers of its effects (as `store.saving.save` does)."""
        self.machine, self.now = encode(change.run), change.now
        for number in change.done:
            self.effects.pop(number, None)
        numbers = tuple(range(self.ordered, self.ordered + len(change.effects)))
        self.ordered += len(numbers)
        self.effects |= {n: encode_effect(e) for n, e in zip(numbers, change.effects, strict=True)}
        self.rows += change.rows
        for fact in change.facts:
            match fact:
                case RoundPublished(round=round_):
                    self.rows = [row for row in self.rows if row.round > round_]
                case RunEnded():
                    self.rows = []
        return numbers

    def run(self) -> Run:
        """Read the run, as a new process does."""
        found = decode(self.machine)
        layout = Manifest.decode(self.layouts[found.manifest]) if found.manifest else None
        round_ = found.stage.round if isinstance(found.stage, InRound) else -1
        return revive(found, RUN, layout, [row for row in self.rows if row.round == round_])


def first_books(plan: Plan) -> Books:
    """Return what is written when an operator has started a run."""
    return Books(encode(begin(plan, 0.0).run))


@dataclass
class Seat:
    """What a lineage needs of its driver."""

    run: Run
    clock: RunClock


@dataclass(eq=False)
class Desk:
    """One process."""

    books: Books
    plan: Plan
    clock: MachineClock
    disk: Disk
    saved: Saved
    summed: Callable[[Aggregate, Words], None]
    doom: Doom = field(default_factory=Doom)
    dead: bool = False
    again: float = 0.0  # when an effect that found no room is tried again
    looks: float = 0.0  # when it is looked at who is silent
    _parked: list[tuple[Call, float]] = field(default_factory=list)  # questions, and when they end

    def __post_init__(self) -> None:
        run = self.books.run()
        self.seat = Seat(run, RunClock(self.clock, self.books.now))
        text = plans.canonical(self.plan)
        self.lineage = Lineage(RUN, self.plan, text, plans.digest(self.plan), cast("Driver", self.seat))
        if run.aside.layout is not None:
            self.lineage.manifests[run.aside.layout.digest] = run.aside.layout
        self.presence = Presence(self.clock, 2 * LONG_POLL + 5)
        self.todo = {number: decode_effect(text) for number, text in self.books.effects.items()}

    @property
    def run(self) -> Run:
        return self.seat.run

    @property
    def sentence(self) -> str:
        return waiting_sentence(self.plan, self.run, self.seat.clock.now())

    # what is written

    def handle(self, event: Event, done: tuple[int, ...] = ()) -> None:
        """Take a step and write it, as the driver does; then it may be answered."""
        found = step(self.plan, self.run, event, self.seat.clock.now())
        moved = found.run is not self.run and found.run != self.run
        if moved or found.effects or found.facts or found.rows or done:
            self._save(found, (event,), done)

    def _save(self, found: Step, events: tuple[Event, ...], done: tuple[int, ...]) -> None:
        change = Change(
            run=found.run,
            now=self.seat.clock.now(),
            wall=self.clock.wall(),
            effects=found.effects,
            done=done,
            facts=found.facts,
            rows=found.rows,
            events=events,
        )
        ends = self.doom.meet()
        if ends and not self.doom.after:
            raise Killed
        self.disk.write()
        numbers = self.books.write(change)
        self.saved(RUN, change)
        if ends:
            raise Killed
        self.seat.run = change.run
        for number in done:
            self.todo.pop(number, None)
        self.todo |= dict(zip(numbers, change.effects, strict=True))

    # time

    def pulse(self) -> None:
        """Do what is due now."""
        now = self.clock.ticks()
        due = next_deadline(self.run)
        if due is not None and self.seat.clock.now() >= due:
            self._tell(Tick())
        if now >= self.looks:
            self.looks = now + BEAT
            for client, quiet in self.presence.silence(RUN, expects(self.run)).items():
                if quiet >= IDLE:
                    self._tell(Lost(client, f"silent for {IDLE:g} s"))
        for parked in list(self._parked):
            self._wake(*parked)

    def _tell(self, event: Event) -> None:
        try:
            self.handle(event)
        except Error:  # the run moved on, or the disk is full: it is told again
            self.again = self.clock.ticks() + BEAT

    def next_pulse(self) -> float:
        """Return when something is due by itself."""
        times = [end for _, end in self._parked]
        now, due = self.seat.clock.now(), next_deadline(self.run)
        if due is not None:
            times.append(max(self.clock.ticks() + due - now + RIPE, self.again))
        if self.todo:
            times.append(self.again)
        if expects(self.run):
            times.append(self.looks)
        return min(times, default=float("inf"))

    def _wake(self, call: Call, end: float) -> None:
        assert isinstance(call.request, Poll)
        told = self._instruct(ClientName(call.site))
        if told.cursor != call.request.cursor or self.clock.ticks() >= end:
            self._parked.remove((call, end))
            call.answer(told)

    def _instruct(self, client: ClientName) -> Instruction:
        return Instruction(self.lineage.instruct(client), self.lineage.outcome(client), renew=False)

    # calls

    def serve(self, call: Call) -> None:
        """Carry a call out, and answer it or keep it open."""
        call.desk, client = self, ClientName(call.site)
        try:
            if call.site in self.books.gone:
                raise NotEnrolled(f"{client} was revoked")
            self._carry(client, call.request)
        except Blamed as blamed:
            raise Violation(f"{client}, which is honest, is blamed: {blamed}") from blamed
        except Error as error:
            call.answer(error=error)
            return
        if isinstance(call.request, Poll):
            self._parked.append((call, self.clock.ticks() + LONG_POLL))
            self._wake(*self._parked[-1])
        else:
            call.answer()

    def cut(self, call: Call) -> None:
        """Notice that a connection is gone."""
        self._parked = [parked for parked in self._parked if parked[0] is not call]

    def _carry(self, client: ClientName, request: Request) -> None:
        if isinstance(request, Hello):
            self.presence.hello(client, OFFERS)
        session = self.presence.seen(client)
        match request:
            case Hello() | Poll():
                self._arrived(client)
            case Join(manifest, model):
                found = Manifest.decode(manifest)
                self.books.layouts[found.digest] = manifest
                self.handle(Joined(client, found.digest, model, identity_of(client), found))
                self.lineage.manifests[found.digest] = found
            case FirstModel(model):
                self.books.models.setdefault(model, 0)
                self.handle(ModelReceived(client, model, 1.0))
            case Fetch(model):
                if model not in self.books.models:
                    raise NotFound(f"there is no model {model}")
                session.moved = session.seen
            case Bye():
                self.presence.left(client)
                if client in self.lineage.members():
                    self.handle(Lost(client, "left"))
            case _:
                self._hear(client, request)

    def _hear(self, client: ClientName, request: Request) -> None:
        """Take what a site says of an attempt."""
        match request:
            case Put():
                self._put(client, request)
            case Moves((round_, attempt)):
                self.presence.moved(client, "training", 1, 2)
                self._check_works(client, round_, attempt)
            case Fail((round_, attempt), code, text):
                self.handle(TaskFailed(client, round_, attempt, code, text))
            case Tell((round_, attempt), data):
                self._say(client, self._read(client, (round_, attempt), data))

    def _read(self, client: ClientName, at: tuple[int, int], data: bytes) -> Said:
        """Return the event, with what the spool holds of an upload."""
        message = read_up(data)
        if not isinstance(message, Upload):
            return Said(client, *at, message)
        digest = Digest(message.digest.hex())
        held = self.books.spool.get((*at, client, digest))
        if held is None:
            raise WrongPhase("uploading, and what was signed is not here", "an upload statement")
        return Said(client, *at, message, digest, held.nbytes)

    def _say(self, client: ClientName, said: Said) -> None:
        try:
            self.handle(said)
        except Blamed as fault:
            self.handle(Faulted(client, said.round, said.attempt, fault.code, str(fault)))
            raise

    def _arrived(self, client: ClientName) -> None:
        stage = self.run.stage
        if client in self.run.away:
            self.handle(Returned(client))
        elif isinstance(stage, Waiting) and client not in stage.offered:
            self.handle(Offered(client))

    def _check_works(self, client: ClientName, round_: int, attempt: int) -> None:
        if not _works(self.run, client, round_, attempt):
            raise WrongPhase(f"past attempt {attempt} of round {round_}", "an update")

    def _put(self, client: ClientName, put: Put) -> None:
        round_, attempt = put.at
        self.presence.moved(client, "uploading", 1, 1)
        self._check_works(client, round_, attempt)
        self.disk.write()
        self.books.spool[round_, attempt, client, put.digest] = put.words.copy()
        if self.plan.protection.mode == "sealed":
            self.handle(Uploaded(client, round_, attempt, put.digest, put.words.nbytes))

    # the operator

    def stop(self) -> None:
        self._tell(StopAsked())

    def revoke(self, client: ClientName) -> None:
        self.books.gone.add(client)
        self.presence.forget(client)
        if client in self.lineage.members():
            self._tell(Lost(client, "revoked"))

    # orders

    def work(self) -> None:
        """Carry out the first order, and write what came of it."""
        number, effect = next(iter(self.todo.items()))
        try:
            event = self._carry_out(effect)
            if event is None:
                self._save(Step(self.run), (), (number,))
            else:
                self._report(event, number)
        except (Unavailable, Fault):
            self.again = self.clock.ticks() + 2.0

    def _report(self, event: Event, number: int) -> None:
        try:
            self.handle(event, (number,))
        except Refused:  # the machine has moved on
            self._save(Step(self.run), (), (number,))

    def _carry_out(self, effect: Effect) -> Event | None:
        match effect:
            case Aggregate():
                return self._aggregate(effect)
            case Forget(round_, attempt):
                for key in [key for key in self.books.spool if key[:2] <= (round_, attempt)]:
                    del self.books.spool[key]
            case Prune(round_, keep):
                models, kept = self.books.models, {*keep, self.run.model}
                self.books.models = {m: r for m, r in models.items() if r > round_ or m in kept}
        return None

    def _aggregate(self, order: Aggregate) -> Event:
        at = order.round, order.attempt
        total = np.sum([self.books.spool[*at, client, digest] for client, digest in order.updates], axis=0)
        if order.masked:
            try:
                stage = protected(self.run)
                if not isinstance(stage, Revealing):
                    return Failure(*at, f"a sum is to be opened in the leg {stage.phase}")
                opening = open_masks(stage)
            except TooFewShares as error:
                return NotOpened(*at, str(error))
            except (BadShares, BadVault) as error:
                raise Violation(f"honest answers do not open the sum: {error}") from error
            if opening.odd:
                raise Violation(f"honest sites are taken for false ones: {opening.odd}")
            apply(opening.streams, total)
        self.summed(order, total)
        model = order.model if order.what == "evaluate" else model_after(order.model, total)
        self.books.models.setdefault(model, order.round)
        return Aggregated(*at, model, (("loss", 1.0),), self.run.bounds)


def model_after(model: Digest, total: Words) -> Digest:
    """Return the name of the model that a sum makes of the last one."""
    return sha256_hex(framed(model, total.tobytes()))


def identity_of(client: ClientName) -> str:
    """Return the key that signs for a site, hex."""
    return identity(client).public.hex()
