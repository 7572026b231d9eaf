"""What must hold in every world, checked the moment it could be broken."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from sim_oracle import Oracle, weights_of
from sim_task import STEP
from sim_wire import Call

from unisono.base.ids import ClientName, Digest, RunId
from unisono.plan import Plan
from unisono.secagg.shared.messages import Abandon, Agree, Answer, Upload
from unisono.secagg.shared.reading import read_up
from unisono.server.rounds import (
    Aggregate,
    Event,
    Fact,
    Faulted,
    Joined,
    RoundPublished,
    Run,
    RunEnded,
    Said,
    TaskFailed,
    Uploaded,
    encode,
)
from unisono.server.store import Change
from unisono.wire.v1 import round_pb2, transfer_pb2, types_pb2

Place = tuple[str, int, int]  # run, round, attempt
SUBMIT = "/unisono.wire.v1.RoundService/Submit"
BEGIN, UPLOAD = "/unisono.wire.v1.TransferService/Begin", "/unisono.wire.v1.TransferService/Upload"
_ONCE = {Agree: "signed two sets", Answer: "revealed twice", Upload: "signed two uploads"}


class Violation(AssertionError):
    """A promise that did not hold."""


@dataclass
class Promises:
    """One world's book."""

    plan: Plan
    numbers: dict[str, int]
    model: Callable[[Digest], bytes]
    spooled: Callable[[Place, str, Digest], bool]
    events: set[tuple[object, ...]] = field(default_factory=set)
    facts: list[Fact] = field(default_factory=list)
    run: Run | None = None  # as saved last
    orders: dict[tuple[int, int], Aggregate] = field(default_factory=dict)
    opened: dict[Digest, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    counted: dict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))  # acknowledged
    excused: set[tuple[str, int, int]] = field(
        default_factory=set
    )  # left out of an attempt for what they said
    left: dict[tuple[str, Place, type], bytes] = field(default_factory=dict)  # what left a site, by kind
    oracle: Oracle | None = None

    # what the coordinator wrote

    def saved(self, run: RunId, change: Change) -> None:
        self.run = change.run
        for event in change.events:
            self._happened(event)
        for effect in change.effects:
            if isinstance(effect, Aggregate):
                self._ordered(effect)
        for fact in change.facts:
            self.facts.append(fact)
            if isinstance(fact, RoundPublished):
                self._published(run, fact)

    def _happened(self, event: Event) -> None:
        match event:
            case Said(client, round_, attempt, message):
                self.events.add((client, round_, attempt, type(message)))
            case Uploaded(client, round_, attempt, digest):
                self.events.add((client, round_, attempt, digest))
            case Faulted(client, round_, attempt) | TaskFailed(client, round_, attempt):
                self.excused.add((client, round_, attempt))
            case Joined(client, described=manifest):
                self.events.add((client, "joined"))
                if manifest is not None and self.oracle is None:
                    self.oracle = Oracle(self.plan, manifest)

    def _ordered(self, order: Aggregate) -> None:
        self.orders[order.round, order.attempt] = order
        if order.masked:
            sums = self.opened[order.model]
            sums.add(tuple(client for client, _ in order.updates))
            if len(sums) > 1:
                raise Violation(f"two sums of one model are opened: {sums}")

    def _published(self, run: RunId, fact: RoundPublished) -> None:
        order = self.orders[fact.round, fact.attempts]
        names = tuple(client for client, _ in order.updates)
        if names != tuple(sorted(set(names))) or names != tuple(sorted(fact.survivors)):
            raise Violation(f"round {fact.round} says {fact.survivors} and summed {names}")
        excused = {client for client, *at in self.excused if at == [fact.round, fact.attempts]}
        if forgotten := self.counted[run, fact.round, fact.attempts] - set(names) - excused:
            raise Violation(f"round {fact.round} forgot {forgotten}, whose updates were acknowledged")
        assert self.oracle is not None
        before, numbers = self.model(order.model), [self.numbers[name] for name in names]
        wanted = self.oracle.published(order, before, numbers)
        manifest = self.oracle.manifest
        if fact.model != wanted:
            after = self.model(fact.model)
            moved = weights_of(manifest, after) - weights_of(manifest, before)
            raise Violation(f"round {fact.round} of {names} published another model: moved {moved}")
        moved = weights_of(manifest, self.model(fact.model)) - weights_of(manifest, before)
        expected = np.zeros_like(moved)
        expected[np.array(numbers) - 1] = STEP / len(numbers)
        if np.abs(moved - expected).max() > STEP / 20:
            raise Violation(f"round {fact.round} of {names} moved {moved}")

    # what left a site

    def sent(self, site: str, method: str, raw: bytes | None) -> None:
        if method != SUBMIT or raw is None:
            return
        request = round_pb2.SubmitRequest.FromString(raw)
        if request.WhichOneof("what") != "said":
            return
        said = request.said
        place, kind = _place(said.attempt), type(message := read_up(said.message))
        if kind in _ONCE:
            before = self.left.setdefault((site, place, kind), said.message)
            if before != said.message:
                raise Violation(f"{site} {_ONCE[kind]} in {place}")
        if isinstance(message, Answer | Abandon):
            self.left[site, place, kind] = said.message
            if {(site, place, Answer), (site, place, Abandon)} <= self.left.keys():
                raise Violation(f"{site} revealed in {place}, and signed that it never would")

    # what the coordinator acknowledged

    def acknowledged(self, call: Call, raw: bytes) -> None:
        """Check that what was just answered is written down."""
        match call.method:
            case m if m == SUBMIT:
                self._submitted(call.site, round_pb2.SubmitRequest.FromString(raw))
            case m if m == BEGIN and call.reply is not None:
                if transfer_pb2.BeginReply.FromString(call.reply).complete:
                    self._took(call.site, transfer_pb2.BeginRequest.FromString(raw).key)

    def took(self, call: Call, key: types_pb2.UploadKey | None) -> None:
        """Check the answer to a whole upload."""
        if call.reply and key and transfer_pb2.UploadReply.FromString(call.reply).complete:
            self._took(call.site, key)

    def _submitted(self, site: str, request: round_pb2.SubmitRequest) -> None:
        match request.WhichOneof("what"):
            case "joined":
                self._written((site, "joined"))
            case "said":
                place, kind = _place(request.said.attempt), type(read_up(request.said.message))
                self._written((site, *place[1:], kind))
                if kind is Upload:
                    self.counted[place].add(site)

    def _took(self, site: str, key: types_pb2.UploadKey) -> None:
        if not key.attempt.round:
            return  # the initial model
        place, digest = _place(key.attempt), Digest(key.sha256.hex())
        if self.plan.protection.mode == "sealed":
            self._written((site, *place[1:], digest))
            self.counted[place].add(site)
        elif not self.spooled(place, site, digest):
            raise Violation(f"{site} was told that its masked update is here, and it is not")

    def _written(self, what: tuple[object, ...]) -> None:
        if what not in self.events:
            raise Violation(f"{what} was acknowledged and is not written down")

    def loaded(self, found: Run) -> None:
        """Hold what a new process read against what the last one wrote."""
        if self.run is not None and encode(found) != encode(self.run):
            raise Violation(f"a restart changed the run: {self.run} became {found}")

    @property
    def ended(self) -> RunEnded | None:
        return next((fact for fact in self.facts if isinstance(fact, RunEnded)), None)

    def published(self) -> list[tuple[ClientName, ...]]:
        """Return the survivors of each round."""
        return [fact.survivors for fact in self.facts if isinstance(fact, RoundPublished)]


def _place(at: types_pb2.Attempt) -> Place:
    return at.run, at.round, at.attempt
