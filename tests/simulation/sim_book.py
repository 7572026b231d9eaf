"""What must hold in every world, whoever plays it: a book of what was written, acknowledged and sent."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from unisono.base.ids import ClientName, Digest, RunId
from unisono.plan import Plan
from unisono.secagg.shared.messages import Abandon, Agree, Answer, Upload
from unisono.secagg.shared.reading import read_up
from unisono.server.rounds import (
    Aggregate,
    AttemptFailed,
    Event,
    Fact,
    Faulted,
    InRound,
    Joined,
    RoundPublished,
    Run,
    RunEnded,
    Said,
    Securing,
    TaskFailed,
    Uploaded,
    expects,
    next_deadline,
)
from unisono.server.store import Change
from unisono.tensors import Manifest

Place = tuple[str, int, int]  # run, round, attempt
_ONCE = {Agree: "signed two sets", Answer: "revealed twice", Upload: "signed two uploads"}
# Refusals of sites that faults alone cause; any other shows a coordinator, or a peer, that was not honest.
BEARABLE = {"wrong_phase", "already_released", "already_revealed", "attempt_abandoned"}


class Violation(AssertionError):
    """A promise that did not hold."""


@dataclass
class Book:
    """One world's."""

    plan: Plan
    numbers: dict[str, int]
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
    manifest: Manifest | None = None
    now: Callable[[], float] = lambda: 0.0  # the world's time
    calm: float = float("inf")  # since when nothing goes wrong, and everybody who may be here is
    began: dict[tuple[int, int], float] = field(default_factory=dict)  # attempts, by round and number

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
            match fact:
                case RoundPublished():
                    self._published(run, fact)
                case AttemptFailed():
                    self._failed(fact)
        if isinstance(stage := change.run.stage, InRound):
            self.began.setdefault((stage.round, stage.attempt), self.now())

    def _failed(self, fact: AttemptFailed) -> None:
        """An attempt may fail for faults alone: in peace a run gets on."""
        if self.began.get((fact.round, fact.attempt), 0.0) >= self.calm:
            raise Violation(f"attempt {fact.attempt} of round {fact.round} failed in peace: {fact.reason}")

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
                self.manifest = self.manifest or manifest

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
        self.look_at_model(fact, order, names)

    def look_at_model(self, fact: RoundPublished, order: Aggregate, names: tuple[ClientName, ...]) -> None:
        """Hold the published model against the one that its survivors make."""
        raise NotImplementedError

    # what left a site

    def said(self, site: str, place: Place, data: bytes) -> None:
        """Hold a message of `secagg/1` that leaves a site against what left it before."""
        kind = type(read_up(data))
        if kind in _ONCE:
            before = self.left.setdefault((site, place, kind), data)
            if before != data:
                raise Violation(f"{site} {_ONCE[kind]} in {place}")
        if kind in {Answer, Abandon}:
            self.left[site, place, kind] = data
            if {(site, place, Answer), (site, place, Abandon)} <= self.left.keys():
                raise Violation(f"{site} revealed in {place}, and signed that it never would")

    # what the coordinator acknowledged

    def took_word(self, site: str, place: Place, data: bytes) -> None:
        """Check that a message of `secagg/1` that was just acknowledged is written down."""
        kind = type(read_up(data))
        self.written((site, *place[1:], kind))
        if kind is Upload:
            self.counted[place].add(site)

    def took_update(self, site: str, place: Place, digest: Digest, *, spooled: bool) -> None:
        """Check that a whole upload that was just acknowledged is kept."""
        if self.plan.protection.mode == "sealed":
            self.written((site, *place[1:], digest))
            self.counted[place].add(site)
        elif not spooled:
            raise Violation(f"{site} was told that its masked update is here, and it is not")

    def written(self, what: tuple[object, ...]) -> None:
        if what not in self.events:
            raise Violation(f"{what} was acknowledged and is not written down")

    def loaded(self, found: Run) -> None:
        """Hold what a new process read against what the last one wrote."""
        if self.run is not None and replace(found, aside=self.run.aside) != self.run:
            raise Violation(f"a restart changed the run: {self.run} became {found}")

    @property
    def ended(self) -> RunEnded | None:
        return next((fact for fact in self.facts if isinstance(fact, RunEnded)), None)

    def published(self) -> list[tuple[ClientName, ...]]:
        """Return the survivors of each round."""
        return [fact.survivors for fact in self.facts if isinstance(fact, RoundPublished)]


def check_explained(run: Run, sentence: str, *, busy: bool) -> None:
    """Every wait has a reason: a sentence, and a time or a name."""
    if not sentence:
        raise Violation(f"nothing is said of {run.stage}")
    waits = next_deadline(run) is not None or expects(run) or busy
    if not waits and not any(name in sentence for name in run.away):
        raise Violation(f'nobody is waited for, and no time: "{sentence}" in {run.stage}')


def check_paused(run: Run, sentence: str, gone: set[str], patience: float) -> None:
    """Only a run whose certified survivors were revoked may wait: it names them."""
    explained = isinstance(run.stage, InRound) and isinstance(run.stage.phase, Securing)
    if not explained or not any(name in sentence for name in gone):
        raise Violation(f'after {patience:g} s without faults: "{sentence}" in {run.stage}')
