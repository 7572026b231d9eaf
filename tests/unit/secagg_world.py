"""A federation in one process: sites with disks, a coordinator with a ledger, small vectors.

Site i sends the unit vector e_i, so the opened sum shows who is in it: every coordinate is 0 or 1.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import Entropy, SigningKey, Stream, encode, sha256, sha256_hex
from unisono.secagg import client as c
from unisono.secagg import server as s
from unisono.secagg.client.state import Bound
from unisono.secagg.shared.encoding import PROTOCOL, Coded
from unisono.secagg.shared.keys import MaskStream
from unisono.secagg.shared.masks import Mask
from unisono.secagg.shared.messages import (
    Abandon,
    Agree,
    Answer,
    Closing,
    Deal,
    Quorum,
    Share,
    Survivors,
    Upload,
)
from unisono.secagg.shared.roster import Attempt, Entry, Pin, Roster, fingerprint, manifest_digest
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.terms import Terms

Words = NDArray[np.uint64]
M = TypeVar("M", bound=Coded)
ST = TypeVar("ST", bound=c.State)
PLAN = sha256_hex(b"plan")
MODEL = sha256_hex(b"model")


def entropy_of(seed: str) -> Entropy:
    """A repeatable stream."""
    stream = Stream(sha256(seed.encode()))

    def draw(count: int) -> bytes:
        out = bytearray(count)
        stream.fill(out)
        return bytes(out)

    return draw


@cache
def identity(name: str) -> SigningKey:
    return SigningKey.generate(entropy_of(f"identity of {name}"))


def name_of(number: int) -> ClientName:
    return ClientName(f"site-{number:03}")


def names(n: int) -> tuple[ClientName, ...]:
    return tuple(name_of(i) for i in range(1, n + 1))


def pins_of(who: Iterable[str]) -> tuple[Pin, ...]:
    return tuple(Pin(ClientName(name), fingerprint(identity(name).public)) for name in who)


def attempt_of(who: Iterable[str], attempt: int = 1, round_: int = 1) -> Attempt:
    return Attempt(RunId("r-0001"), round_, attempt, PLAN, manifest_digest(pins_of(who)))


def spec_of(n: int, colluding: int = 0, minimum: int = 0, words: int = 0) -> Spec:
    return Spec(b"codec", 8 * (words or n), Terms.of(n, colluding, minimum))


@dataclass
class Site:
    """One client: `disk` is all that survives a restart."""

    name: ClientName
    setup: c.Setup
    spec_for: Callable[[int], Spec]
    vector: Words
    entropy: Entropy
    model: Digest = MODEL
    disk: bytes = b""
    upload: Words | None = None  # masked, as it was sent last

    @property
    def key(self) -> SigningKey:
        return identity(self.name)

    @property
    def state(self) -> c.State:
        """Always from the disk: every step is a restart."""
        return c.decode_state(self.disk)

    def move(self, move: c.Move[ST]) -> bytes | None:
        state, message = move.after(self._save)
        assert c.decode_state(self.disk) == state
        assert state.encode() == self.disk
        return message

    def _save(self, data: bytes) -> None:
        self.disk = data

    def begin(self) -> bytes:
        return some(self.move(c.begin(self.setup, self.key, self.entropy)))

    def receive(self, message: Coded) -> bytes | None:
        """What a runtime does with each message of the coordinator."""
        match message:
            case Roster():
                self.move(self.state.receive_roster(message, self.spec_for))
                return self.move(self.state.share(self.model, self.key, self.entropy))
            case Deal():
                self.move(self.state.receive_deal(message))
                return self.send_vector()
            case Survivors():
                return self.move(self.state.receive_survivors(message, self.key))
            case Quorum():
                return self.move(self.state.receive_quorum(message))
            case Closing():
                return self.move(self.state.abandon(message, self.key))
        raise AssertionError(message)

    def send_vector(self) -> bytes:
        self.move(self.state.commit(sha256(self.vector), self.vector.nbytes))
        state = self.state
        assert isinstance(state, c.Committed | c.Uploaded)
        self.upload = self.vector.copy()
        apply(state.streams, self.upload)
        return some(self.move(state.uploaded(sha256(self.upload), self.key)))


def apply(streams: Iterable[MaskStream], words: Words) -> None:
    scratch = np.empty(64, np.uint64)
    for stream in streams:
        mask = Mask(stream.key, scratch)
        (mask.add if stream.add else mask.subtract)(words, 0)


@dataclass
class Coordinator:
    """`ledger` is all that survives a restart, and `spool` the vectors."""

    setup: s.Setup
    spec: Callable[[int], Spec]
    ledger: list[bytes] = field(default_factory=list)
    spool: dict[ClientName, Words] = field(default_factory=dict)
    stage: s.Stage = field(init=False)

    def __post_init__(self) -> None:
        self.stage = s.begin(self.setup)

    def step(self, step: s.Step) -> None:
        self.stage = step.after(self.ledger.append)

    def restart(self) -> None:
        restored = s.restore(self.setup, self.ledger)
        assert restored == self.stage
        self.stage = type(restored).decode(restored.encode())
        assert self.stage == restored

    def receive(self, name: ClientName, message: Coded, vector: Words | None = None) -> None:
        stage = self.stage
        match message:
            case Entry():
                self.step(stage.advertise(name, message))
            case Share():
                self.step(stage.share(name, message))
            case Upload():
                assert vector is not None
                self.spool[name] = vector.copy()
                self.step(stage.upload(name, message, vector.nbytes, sha256(vector)))
            case Agree():
                self.step(stage.agree(name, message))
            case Answer():
                self.step(stage.reveal(name, message))
            case Abandon():
                self.step(stage.abandon(name, message))
            case _:
                raise AssertionError(message)

    def freeze_roster(self) -> None:
        count = len([e for e in self.stage.book.entries if not self.stage.book.is_out(e.name)])
        self.step(self.stage.freeze_roster(self.spec(count), MODEL))

    def sum(self) -> Words:
        """Open the masks and take them off the sum of the survivors."""
        stage = self.stage
        assert isinstance(stage, s.Revealing)
        book = stage.book
        total = np.zeros(book.roster.spec.length // 8, np.uint64)
        for name in book.roster.names(book.survivors):
            total += self.spool[name]
        apply(s.open_masks(stage).streams, total)
        return total


UP: dict[str, type[Coded]] = {m.kind: m for m in (Entry, Share, Upload, Agree, Answer, Abandon)}
DOWN: dict[str, type[Coded]] = {m.kind: m for m in (Roster, Deal, Survivors, Quorum, Closing)}


@dataclass
class World:
    """Both sides, and the verbs of a schedule."""

    n: int
    colluding: int = 0
    minimum: int = 0
    attempt: int = 1
    only: tuple[ClientName, ...] = ()
    bounds: dict[ClientName, Bound] = field(default_factory=dict)
    vectors: dict[ClientName, Words] = field(default_factory=dict)
    seed: str = "world"
    words: int = 0  # of a vector; 0: one for each site
    who: tuple[ClientName, ...] = ()  # who they are; (): the first n
    sites: dict[ClientName, Site] = field(init=False)
    coordinator: Coordinator = field(init=False)

    def __post_init__(self) -> None:
        who = self.who or names(self.n)
        attempt = attempt_of(who, self.attempt)
        members = tuple(s.Member(name, identity(name).public) for name in who)
        self.coordinator = Coordinator(s.Setup(attempt, members, self.only), self.spec)
        self.sites = {}
        for number, name in enumerate(who):
            setup = c.Setup(name, attempt, pins_of(who), 0, 0, self.bounds.get(name), MODEL)
            unit = np.zeros(self.n, np.uint64)
            unit[number] = 1
            entropy = entropy_of(f"{self.seed} {self.attempt} {name}")
            self.sites[name] = Site(name, setup, self.spec, self.vectors.get(name, unit), entropy)

    def spec(self, n: int) -> Spec:
        return spec_of(n, self.colluding, self.minimum, self.words or self.n)

    def up(self, name: ClientName, data: bytes | None) -> None:
        """Carry a message to the coordinator, as bytes."""
        if data is not None:
            kind = next(kind for kind in UP if data.startswith(header(kind)))
            self.coordinator.receive(name, UP[kind].decode(data), self.sites[name].upload)

    def down(self, name: ClientName, data: bytes) -> bytes | None:
        """Carry a message to a client, as bytes."""
        kind = next(kind for kind in DOWN if data.startswith(header(kind)))
        return self.sites[name].receive(DOWN[kind].decode(data))

    def advertise(self, who: Iterable[ClientName]) -> None:
        for name in who:
            self.up(name, self.sites[name].begin())

    def exchange(self, who: Iterable[ClientName]) -> None:
        """Each of them is sent what is there for it, and answers."""
        for name in who:
            message = self.coordinator.stage.message_for(name)
            assert message is not None
            self.up(name, self.sites[name].receive(type(message).decode(message.encode())))

    def play(self, *legs: Iterable[ClientName] | None) -> Words:
        """A whole attempt; who takes part in each leg (None: all)."""
        everybody = names(self.n)
        chosen: Iterator[list[ClientName]] = (list(everybody if leg is None else leg) for leg in legs)
        self.advertise(next(chosen, everybody))
        self.coordinator.freeze_roster()
        for freeze in ("freeze_shares", "freeze_survivors", "certify"):
            self.exchange(next(chosen, everybody))
            self.coordinator.step(getattr(self.coordinator.stage, freeze)())
        self.exchange(next(chosen, everybody))
        return self.coordinator.sum()


def header(kind: str) -> bytes:
    return encode(PROTOCOL, kind)


def some(value: bytes | None) -> bytes:
    assert value is not None
    return value


@dataclass(frozen=True)
class Journey:
    """An attempt of five that went well, kept at every step: the last site shared and never uploaded.

    `states` are those of site 1 and `stages` the coordinator's, by class; `down` is what site 1 was sent;
    `up` is what everybody sent, by kind; `spool` what was stored.
    """

    world: World
    states: dict[type[c.State], c.State]
    stages: dict[type[s.Stage], s.Stage]
    down: dict[type[Coded], Coded]
    up: dict[tuple[str, ClientName], bytes]
    spool: dict[ClientName, Words]

    def state(self, kind: type[ST]) -> ST:
        found = self.states[kind]
        assert isinstance(found, kind)
        return found

    def sent(self, kind: type[M]) -> M:
        found = self.down[kind]
        assert isinstance(found, kind)
        return found

    def said(self, kind: type[M], name: ClientName) -> M:
        return kind.decode(self.up[kind.kind, name])


@cache
def journey(n: int = 5, colluding: int = 0) -> Journey:
    world, who = World(n, colluding), names(n)
    states: dict[type[c.State], c.State] = {}
    stages: dict[type[s.Stage], s.Stage] = {}
    down: dict[type[Coded], Coded] = {}
    up: dict[tuple[str, ClientName], bytes] = {}

    def saved(data: bytes) -> None:
        first.disk = data
        states[type(first.state)] = first.state

    first = world.sites[who[0]]
    object.__setattr__(first, "_save", saved)
    coordinator = world.coordinator

    def carry(name: ClientName, data: bytes | None) -> None:
        stages[type(coordinator.stage)] = coordinator.stage
        kind = next(kind for kind in UP if some(data).startswith(header(kind)))
        up[kind, name] = some(data)
        world.up(name, data)

    for name in who:
        carry(name, world.sites[name].begin())
    for leg, freeze in enumerate(("freeze_roster", "freeze_shares", "freeze_survivors", "certify", "")):
        for name in who[: n if leg < 2 else n - 1] if leg else ():
            message = coordinator.stage.message_for(name)
            assert message is not None
            if name == who[0]:
                down[type(message)] = message
            carry(name, world.sites[name].receive(message))
        if leg == 0:
            coordinator.freeze_roster()
        elif freeze:
            coordinator.step(getattr(coordinator.stage, freeze)())
    stages[type(coordinator.stage)] = coordinator.stage
    assert coordinator.sum().tolist() == [1] * (n - 1) + [0]
    return Journey(world, states, stages, down, up, coordinator.spool)
