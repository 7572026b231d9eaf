"""One attempt of secure aggregation in one process, both sides timed leg by leg, its sum held to the truth.

What a client's seconds have in them: all messages from bytes and to bytes, every check, every state encoded
and sealed (in memory), SHA-256 of the vector before and after masking, the masks.  What the coordinator's:
all messages, checks and ledger rows, SHA-256 of every upload, the sum, the shares put together, the masks
taken off.  What neither: training, codec, network, disk.  One thread each.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unisono.base.ids import ClientName, RunId
from unisono.crypto import AtRest, SigningKey, sha256, sha256_hex, system_entropy
from unisono.secagg import client as c
from unisono.secagg import server as s
from unisono.secagg.shared.keys import MaskStream
from unisono.secagg.shared.masks import SCRATCH, Mask
from unisono.secagg.shared.messages import Agree, Answer, Deal, Quorum, Share, Survivors, Upload
from unisono.secagg.shared.reading import Up, read_down, read_up
from unisono.secagg.shared.roster import Attempt, Entry, Pin, Roster, fingerprint, manifest_digest
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.terms import Terms, default_colluding

Words = NDArray[np.uint64]
CHUNK = (1 << 20) // 8  # words that all masks are applied to before the next: one part of an upload
LEGS = ("upload", "reveal", "agree", "share")  # where a client is lost: before it uploads, reveals, ...
MODEL = sha256_hex(b"model")


class Clock:
    """Wall seconds of one side by what they went into, and its CPU seconds."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu = 0.0

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.wall[what] = self.wall.get(what, 0.0) + time.perf_counter() - wall
            self.cpu += time.thread_time() - cpu

    @property
    def seconds(self) -> float:
        return sum(self.wall.values())


def masked(words: Words, streams: Iterable[MaskStream]) -> None:
    """Apply all masks to a vector, chunk by chunk."""
    scratch = np.empty(SCRATCH, np.uint64)
    masks = [(Mask(stream.key, scratch), stream.add) for stream in streams]
    for start in range(0, words.size, CHUNK):
        part = words[start : start + CHUNK]
        for mask, add in masks:
            (mask.add if add else mask.subtract)(part, 8 * start)


class Client:
    """Holds its state in memory, and seals it as it would for the disk."""

    def __init__(self, setup: c.Setup, key: SigningKey, spec: Spec) -> None:
        self.clock, self.sent, self.received = Clock(), 0, 0
        self._setup, self._key, self._spec = setup, key, spec
        self._disk, self._state = AtRest(bytes(32)), c.State()

    def begin(self) -> bytes:
        with self.clock("advertise"):
            return self._said(c.begin(self._setup, self._key, system_entropy))

    def hear(self, data: bytes, vector: Words) -> bytes:
        """Answer the coordinator; `vector` is masked in place when its turn comes."""
        self.received += len(data)
        with self.clock("messages"):
            message = read_down(data)
        match message:
            case Roster():
                with self.clock("roster"):
                    self._said(self._state.receive_roster(message, lambda n: self._spec))
                with self.clock("share"):
                    return self._said(self._state.share(MODEL, self._key, system_entropy))
            case Deal():
                with self.clock("deal"):
                    self._said(self._state.receive_deal(message))
                return self._upload(vector)
            case Survivors():
                with self.clock("agree"):
                    return self._said(self._state.receive_survivors(message, self._key))
            case Quorum():
                with self.clock("reveal"):
                    return self._said(self._state.receive_quorum(message))
        raise AssertionError(message)

    def _upload(self, vector: Words) -> bytes:
        with self.clock("digests"):
            self._said(self._state.commit(sha256(vector), vector.nbytes))
        assert isinstance(self._state, c.Committed)
        with self.clock("masks"):
            masked(vector, self._state.streams)
        with self.clock("digests"):
            digest = sha256(vector)
        with self.clock("upload"):
            return self._said(self._state.uploaded(digest, self._key))

    def _said(self, move: "c.Move[c.State]") -> bytes:
        self._state, data = move.after(self._save)
        self.sent += len(data or b"")
        return data or b""

    def _save(self, state: bytes) -> None:
        _, sealer = self._disk.new(system_entropy, b"benchmark")
        for start in range(0, len(state), 1 << 20):
            sealer.seal(state[start : start + (1 << 20)], last=start + (1 << 20) >= len(state))


class Coordinator:
    """Holds its stage and the running sum; counts the bytes of its ledger."""

    def __init__(self, setup: s.Setup, words: int) -> None:
        self.clock, self.ledger, self.streams = Clock(), 0, 0
        self.stage: s.Stage = s.begin(setup)
        self._sum = np.zeros(words, np.uint64)

    def take(self, name: ClientName, data: bytes, vector: Words) -> None:
        """Take a message; the vector of an upload goes into the sum."""
        with self.clock("messages"):
            message, digest = read_up(data), b""
        if isinstance(message, Upload):
            with self.clock("digests"):
                digest = sha256(vector)
            with self.clock("sum"):
                np.add(self._sum, vector, out=self._sum)
        with self.clock("messages"):
            self._take(self._handed_in(name, message, vector.nbytes, digest))

    def _handed_in(self, name: ClientName, message: Up, length: int, digest: bytes) -> s.Step:
        match message:
            case Entry():
                return self.stage.advertise(name, message)
            case Share():
                return self.stage.share(name, message)
            case Upload():
                return self.stage.upload(name, message, length, digest)
            case Agree():
                return self.stage.agree(name, message)
            case Answer():
                return self.stage.reveal(name, message)
        raise AssertionError(message)

    def decide(self, what: str, spec: Spec) -> None:
        with self.clock("decisions"):
            stage = self.stage
            match what:
                case "roster":
                    self._take(stage.freeze_roster(spec, MODEL))
                case "shares":
                    self._take(stage.freeze_shares())
                case "survivors":
                    self._take(stage.freeze_survivors())
                case _:
                    self._take(stage.certify())

    def say(self, name: ClientName) -> bytes:
        with self.clock("messages"):
            message = self.stage.message_for(name)
            return b"" if message is None else message.encode()

    def open(self) -> Words:
        """Return the sum, all masks taken off."""
        assert isinstance(self.stage, s.Revealing)
        with self.clock("shares"):
            streams = s.open_masks(self.stage).streams
        self.streams = len(streams)
        with self.clock("masks"):
            masked(self._sum, streams)
        return self._sum

    def _take(self, step: s.Step) -> None:
        self.stage = step.after(self._append)

    def _append(self, record: bytes) -> None:
        self.ledger += len(record)


@dataclass(slots=True)
class Attempted:
    """An attempt that is over."""

    clients: list[Client]  # those who went all the way
    coordinator: Coordinator
    lost: dict[str, int]
    threshold: int
    exact: bool


def attempt(clients: int, words: int, drop: int) -> Attempted:
    """Play one attempt with vectors of so many words; `drop` clients are lost, one leg after the other."""
    world = _World(clients, words, drop)
    names = world.names
    world.hear((name, world.clients[name].begin()) for name in names)
    for decision, leg in (("roster", "share"), ("shares", "upload"), ("survivors", "agree"), ("", "reveal")):
        world.coordinator.decide(decision, world.spec)
        names = [name for name in names if world.lost.get(name) != leg]
        world.hear((name, world.ask(name)) for name in names)
    total = world.coordinator.open()
    done = [world.clients[name] for name in names]
    lost = dict(Counter(world.lost.values()))
    return Attempted(
        done, world.coordinator, lost, world.spec.terms.threshold, bool((total == world.truth).all())
    )


class _World:
    """Sites, their vectors, and who is lost when."""

    def __init__(self, count: int, words: int, drop: int) -> None:
        self.names = [ClientName(f"site-{number:03}") for number in range(1, count + 1)]
        self.lost = {name: LEGS[number % len(LEGS)] for number, name in enumerate(self.names[1 : drop + 1])}
        keys = {name: SigningKey.generate(system_entropy) for name in self.names}
        pins = tuple(Pin(name, fingerprint(key.public)) for name, key in keys.items())
        called = Attempt(RunId("r-0001"), 1, 1, sha256_hex(b"plan"), manifest_digest(pins))
        self.spec = Spec(b"benchmark", 8 * words, Terms.of(count, default_colluding(count)))
        members = tuple(s.Member(name, key.public) for name, key in keys.items())
        self.coordinator = Coordinator(s.Setup(called, members), words)
        self.clients = {
            name: Client(c.Setup(name, called, pins, 0, 0, None, MODEL), key, self.spec)
            for name, key in keys.items()
        }
        self.truth, self._vector = np.zeros(words, np.uint64), np.zeros(words, np.uint64)
        self._random = np.random.default_rng(0)

    def hear(self, said: Iterable[tuple[ClientName, bytes]]) -> None:
        for name, data in said:
            self.coordinator.take(name, data, self._vector)

    def ask(self, name: ClientName) -> bytes:
        """Bring a client what there is for it, and return what it says."""
        data = self.coordinator.say(name)
        uploads = isinstance(self.coordinator.stage, s.Uploading)
        if uploads:
            self._vector[:] = self._random.integers(0, 1 << 20, self._vector.size, np.uint64)
            self.truth += self._vector
        return self.clients[name].hear(data, self._vector)
