"""A federation in one process: real clients (driver, session, vault, protection), the real coordinator half.

Between them is a link that hands values over; the trainer is replaced by what it would write: the vector of a
known update, laid out by the trainer's own code.  Site i of n learns the unit vector e_i times 1000, so the
opened mean shows who is in it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import SystemRandom

import numpy as np
from numpy.typing import NDArray
from secagg_world import apply, identity, names

from unisono.base.clock import ManualClock
from unisono.base.errors import Refused
from unisono.base.ids import ClientName, Digest, RunId
from unisono.client.config import Config
from unisono.client.policy import Policy
from unisono.client.runtime.agreements import spec_of as layout_from
from unisono.client.runtime.allowance import Allowance
from unisono.client.runtime.approvals import Approvals
from unisono.client.runtime.attempts import Attempts
from unisono.client.runtime.cache import Cache
from unisono.client.runtime.driver import Driver, Parts
from unisono.client.runtime.examining import Examiner
from unisono.client.runtime.files import write_private
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.inviting import Member
from unisono.client.runtime.knowledge import Judgement, Knowledge
from unisono.client.runtime.link import Federation, Link, Told
from unisono.client.runtime.notices import Notice
from unisono.client.runtime.place import place_of
from unisono.client.runtime.receipts import Receipts
from unisono.client.runtime.secure import Disk, Protection
from unisono.client.runtime.training import Progress, Vector, Workbench
from unisono.client.runtime.uploads import Parcel, Place
from unisono.client.runtime.vault import Agreed, Identity, Vault
from unisono.client.session import (
    Attempt,
    BackingOff,
    Fails,
    Greeting,
    Idle,
    Left,
    Polling,
    Secure,
    State,
    Update,
    What,
    leg_of,
)
from unisono.client.trainer import kept
from unisono.client.trainer import update as laid
from unisono.codec import Decoder, Rotation, decode_head, first_bound, rotation_stream, rounding_stream
from unisono.crypto import AtRest, TlsKey, sha256_hex
from unisono.identity import Authority, request
from unisono.plan import Plan, canonical, digest, parse
from unisono.secagg import server as s
from unisono.secagg.shared import roster as protocol
from unisono.secagg.shared.laying import spec_of
from unisono.secagg.shared.messages import Abandon, Agree, Answer, Complaint, Share, Upload
from unisono.secagg.shared.reading import Up, read_up
from unisono.secagg.shared.roster import Entry, Pin, fingerprint, manifest_digest
from unisono.secagg.shared.spec import Spec
from unisono.tensors import Entry as Tensor
from unisono.tensors import Manifest, Piece, norm, write

RUN = RunId("r-0001")
CA = Authority.create("cardio", ManualClock().wall()).certificate_pem


@cache
def certificate() -> bytes:
    """Return a TLS certificate that is new for long."""
    now = ManualClock().wall()
    return Authority.create("cardio", now).issue_tls(request(TlsKey.generate()), "client", "site", now, 9e6)


TEXT = b'task = "t"\n[protection]\nmode = "secagg"\nmax_colluding = 0\n'
SIZE = 5000
MANIFEST = Manifest((Tensor("w", (SIZE,), "F32", True),), ())
Change = Callable[[ClientName, Secure], Secure]


def plan_of(text: bytes = TEXT) -> Plan:
    return parse(text)


def model_of(seed: int = 0) -> bytes:
    """Return the plain file of a model."""
    values = np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)
    return write({"w": values * 100})


def bound_of(model: bytes) -> float:
    return first_bound(norm(MANIFEST, lambda offset, length: model[offset : offset + length]))


@dataclass
class Hub:
    """The coordinator's half, one attempt at a time, and what a link needs of it."""

    plan: Plan
    who: tuple[ClientName, ...]
    model: bytes = field(default_factory=model_of)
    round: int = 1
    attempt: int = 0
    cursor: int = 0
    certificates: tuple[bytes, ...] = ()
    bounds: tuple[float, ...] = ()
    what: What = "train"
    change: Change = lambda _, order: order  # what a hostile coordinator makes of an instruction
    away: set[ClientName] = field(default_factory=set)
    spool: dict[ClientName, bytes] = field(default_factory=dict)
    failed: list[tuple[ClientName, Fails]] = field(default_factory=list)
    blamed: list[tuple[ClientName, str]] = field(default_factory=list)
    last: dict[ClientName, tuple[Secure, int]] = field(default_factory=dict)
    outcomes: dict[ClientName, object] = field(default_factory=dict)
    stage: s.Stage = field(init=False)
    closing: bool = False

    def __post_init__(self) -> None:
        self.bounds = self.bounds or (bound_of(self.model),)
        self.open()

    @property
    def pins(self) -> tuple[Pin, ...]:
        return tuple(Pin(name, fingerprint(identity(name).public)) for name in self.who)

    @property
    def digest(self) -> Digest:
        return sha256_hex(self.model)

    def open(self, only: tuple[ClientName, ...] = (), cohort: Sequence[ClientName] | None = None) -> None:
        """Begin the next attempt."""
        self.attempt += 1
        self.spool.clear()
        self.closing = False
        chosen = tuple(cohort or self.who)
        members = tuple(s.Member(name, identity(name).public) for name in chosen)
        manifest = manifest_digest(self.pins)
        attempt = protocol.Attempt(RUN, self.round, self.attempt, digest(self.plan), manifest)
        self.stage = s.begin(s.Setup(attempt, members, only))

    def spec(self, clients: int) -> Spec:
        return spec_of(self.plan, MANIFEST, self.what, self.round, clients, len(self.who), self.bounds)

    def take(self, step: s.Step) -> None:
        self.stage = step.after(lambda row: None)

    @property
    def present(self) -> list[ClientName]:
        return [name for name in self.who if name not in self.away]

    def go_on(self) -> bool:
        """Freeze what is complete without those who are away; tell whether anything was."""
        if set(self.stage.waiting_for()) - self.away:
            return False
        try:
            return self._frozen()
        except Refused:  # too few are left
            return False

    def _frozen(self) -> bool:
        match self.stage:
            case s.Advertising():
                count = len([e for e in self.stage.book.entries if not self.stage.book.is_out(e.name)])
                if count < 3:
                    return False
                self.take(self.stage.freeze_roster(self.spec(count), self.digest))
            case s.Sharing():
                self.take(self.stage.freeze_shares())
            case s.Uploading():
                self.take(self.stage.freeze_survivors())
            case s.Agreeing():
                self.take(self.stage.certify())
            case _:
                return False
        return True

    def close(self) -> None:
        self.take(self.stage.close())
        self.closing = True

    def order(self, name: ClientName) -> Secure | None:
        message = self.stage.message_for(name)
        if message is None and not isinstance(self.stage, s.Advertising):
            return None
        if isinstance(self.stage, s.Advertising) and name in {e.name for e in self.stage.book.entries}:
            return None
        raw = b"" if message is None else message.encode()
        found = Secure(
            Attempt(RUN, self.round, self.attempt), self.what, digest(self.plan), self.digest,
            len(self.model),
            60.0, self.pins, self.certificates, raw, leg_of(raw),
        )  # fmt: skip
        return self.change(name, found)

    def told(self, name: ClientName, cursor: int) -> Told:
        """Answer a poll: the same cursor for the same instruction."""
        order = self.order(name)
        if order is None:
            return Told(cursor, Idle(), None, renew=False)
        before = self.last.get(name)
        if before is None or before[0] != order:
            self.cursor += 1
            self.last[name] = order, self.cursor
        number = self.last[name][1]
        return Told(number, Idle() if number == cursor else order, None, renew=False)

    def say(self, name: ClientName, at: Attempt, raw: bytes) -> None:
        if (at.round, at.attempt) != (self.round, self.attempt):
            raise Refused("that attempt is over")
        try:
            self._take(name, read_up(raw))
        except s.faults.Blamed as blamed:
            self.blamed.append((name, blamed.code))
            self.away.add(name)
            raise

    def _take(self, name: ClientName, message: Up) -> None:
        match message:
            case Entry():
                self.take(self.stage.advertise(name, message))
            case Share():
                self.take(self.stage.share(name, message))
            case Complaint():
                self.take(self.stage.complain(name, message))
            case Upload():
                spooled = self.spool[name]
                digest_ = bytes.fromhex(sha256_hex(spooled))
                self.take(self.stage.upload(name, message, len(spooled), digest_))
            case Agree():
                self.take(self.stage.agree(name, message))
            case Answer():
                self.take(self.stage.reveal(name, message))
            case Abandon():
                self.take(self.stage.abandon(name, message))

    def mean(self) -> NDArray[np.float32]:
        """Open the sum and return the mean that it gives; its head is checked."""
        stage = self.stage
        assert isinstance(stage, s.Revealing)
        book = stage.book
        layout = layout_from(book.roster.spec.codec)
        total = np.zeros(layout.words, np.uint64)
        survivors = book.roster.names(book.survivors)
        for name in survivors:
            total += np.frombuffer(self.spool[name], "<u8")
        apply(s.open_masks(stage).streams, total)
        head = decode_head(total[layout.head_offset :], layout)
        s.check_sum(head["one"], head["weight"], len(survivors))
        (part,) = layout.parts
        out = np.empty(layout.coordinates(part), np.float32)
        Decoder(layout, part, len(survivors), head["weight"]).decode(total[: layout.head_offset], out)
        Rotation(rotation_stream(self.plan.seed, self.round, digest(self.plan)), part.length).inverse(out)
        return out[: part.length]


class Wire(Link):
    """What a driver calls, answered by the hub.  `cut` breaks a call off once, before or after it."""

    def __init__(self, hub: Hub, name: ClientName) -> None:
        self.hub, self.name, self.address = hub, name, "hub"
        self.leaves: list[bytes] = []  # what left the site, masked bytes too

    def open(self) -> None: ...
    def close(self) -> None: ...
    def leaving(self) -> None: ...

    def hello(self) -> Federation:
        return Federation("cardio", self.name, 1, b"", 0.0, 1, 1, 25.0)

    def sealing_public(self, found: Federation, wall: float) -> bytes:
        return bytes(32)

    def poll(
        self,
        cursor: int,
        wait: float,
        due: Sequence[tuple[RunId, int]] = (),
        said: tuple[Attempt, bytes] | None = None,
    ) -> Told:
        assert not due, "nobody here signs receipts"
        if said is not None:
            self.said(*said)
        return self.hub.told(self.name, cursor)

    def said(self, attempt: Attempt, message: bytes) -> None:
        self.leaves.append(message)
        self.hub.say(self.name, attempt, message)

    def failed(self, answer: Fails) -> None:
        self.hub.failed.append((self.name, answer))
        self.hub.away.add(self.name)

    def progress(self, attempt: Attempt, stage: str, done: int, total: int) -> None: ...

    def begin(self, parcel: Parcel) -> Place:
        found = self.hub.spool.get(self.name)
        whole = found is not None and sha256_hex(found) == parcel.sha256
        return Place(parcel.bytes if whole else 0, whole)

    def upload(self, parcel: Parcel, chunks: Iterator[tuple[int, bytes | memoryview]]) -> Place:
        data = b"".join(piece for _, piece in chunks)
        assert (len(data), sha256_hex(data)) == (parcel.bytes, parcel.sha256)
        self.leaves.append(data)
        self.hub.spool[self.name] = data
        return Place(len(data), complete=True)

    def download(self, digest: Digest, offset: int, take: Callable[[int, bytes | memoryview], None]) -> None:
        assert sha256_hex(self.hub.model) == digest
        take(offset, self.hub.model[offset:])


class Bench(Workbench):
    """Writes what the trainer would: the vector of a known update."""

    def __init__(self, folder: Path, at_rest: AtRest, vault: Vault, plan: Plan, number: int) -> None:
        self._folder, self._at_rest, self._vault, self._plan = folder, at_rest, vault, plan
        self._site = number
        self.trained: list[str] = []

    def warm(self) -> None: ...
    def stop(self) -> None: ...
    def keep(self, run: RunId, model: Digest, size: int) -> None: ...

    def keep_vector(self, work: Secure, vector: Vector, progress: Progress) -> Update:
        self.trained.append(f"{work.attempt.round}.{work.attempt.attempt}")

        def source(piece: Piece, begin: int, end: int) -> NDArray[np.float32]:
            found = np.zeros(SIZE, np.float32)
            found[self._site - 1] = 1000.0
            return found[begin:end]

        layout = layout_from(vector.spec)
        name = f"site-{self._site:03}"
        rounding = rounding_stream(self._plan.seed, work.attempt.round, name, work.model)
        sources = {part.name: source for part in layout.parts}
        numbers = laid.Vector(MANIFEST, sources, {"one": 1.0, "weight": 0.5}, rounding)
        signs = rotation_stream(self._plan.seed, work.attempt.round, digest(self._plan))
        file = f"{vector.key.run}-{vector.key.round}-{vector.key.model[:16]}-{vector.key.spec[:16]}.vector"
        shelf = kept.Shelf(self._folder / "updates" / file, self._at_rest, vector.context)
        written = kept.keep(shelf, layout, numbers, signs, lambda done, total: None)
        update = Update(vector.key, file, written.sha256, written.bytes)
        self._vault.finish(update, "")
        return update


@dataclass
class Site:
    """A folder, and the process that works in it; `restart` kills that one and starts another."""

    folder: Path
    number: int
    hub: Hub
    policy: Policy = field(default_factory=Policy)
    seen: list[Notice] = field(default_factory=list)
    state: State = field(default_factory=Greeting)
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clock = ManualClock()
        self.wire = Wire(self.hub, self.name)
        write_private(self.folder / "tls.pem", certificate())
        self.start()
        self.vault.joined(Identity("cardio", self.name, self.number), "key")
        plan = self.hub.plan
        self.vault.accept(Agreed(RUN, canonical(plan), digest(plan), MANIFEST.encode(), None))

    @property
    def name(self) -> ClientName:
        return ClientName(f"site-{self.number:03}")

    def start(self) -> None:
        key = bytes([self.number] * 32)
        self.vault = Vault(self.folder, self.clock)
        self.vault._db.execute("PRAGMA synchronous = OFF")  # processes end here, power does not
        attempts = Attempts(self.vault, key, place_of(self.folder / "state.db"))
        models = Cache(self.folder / "cache", key)
        config = Config(tasks={"t": "x:T"})
        approvals = Approvals(self.folder)
        judgement = Judgement(config, self.policy, approvals, self.clock)
        member = Member(
            self.name,
            identity(self.name),
            identity(self.name).public,
            Digest("0" * 64),
            self.policy,
            judgement,
        )
        disk = Disk(self.vault, attempts, models, Examiner(models, key), AtRest(key), approvals)
        self.protection = Protection(member, disk, self.seen.append)
        self.attempts, self.cache = attempts, models
        self.bench = Bench(self.folder, AtRest(key), self.vault, self.hub.plan, self.number)
        self.halt = Halt()
        parts = Parts(
            self.folder, config, self.wire, self.vault, models,
            Knowledge(judgement, self.vault, models, self.protection.known), self.protection, approvals,
            Receipts(self.vault, self.name, CA, self.seen.append), self.bench,
            Allowance(config.network, self.clock, self.halt), self.clock, self.halt,
        )  # fmt: skip
        self.driver = Driver(parts, self.seen.append, SystemRandom())
        self.state = Greeting()

    def stop(self) -> None:
        self.vault.close()
        self.halt.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def turn(self) -> bool:
        """Do one thing; tell whether it was more than asking in vain."""
        before = self.state
        assert not isinstance(before, Left)
        if isinstance(before, BackingOff):
            self.clock.advance(max(0.0, before.until - self.clock.ticks()))
        self.state = self.driver.turn(before)
        return not (isinstance(before, Polling) and self.state == before)

    def kinds(self) -> list[str]:
        """Return the kinds of its audit lines."""
        return [line.kind for line in self.vault.audit()][2:]


@dataclass
class World:
    """n sites and a hub."""

    folder: Path
    n: int = 3
    text: bytes = TEXT
    policy: Policy = field(default_factory=Policy)
    hub: Hub = field(init=False)
    sites: list[Site] = field(init=False)

    def __post_init__(self) -> None:
        self.hub = Hub(plan_of(self.text), names(self.n))
        self.sites = [
            Site(self.folder / f"s{number}", number, self.hub, self.policy) for number in range(1, self.n + 1)
        ]

    def run(
        self, each: Callable[[Site], None] = lambda site: None, until: type[s.Stage] | None = None
    ) -> None:
        """Let everybody go on until nothing moves; `each` is called before every turn of a site."""
        moved, left = True, 200
        while moved:
            moved, left = False, left - 1
            assert left, "the same again and again"
            for site in self.sites:
                if site.name in self.hub.away:
                    continue
                for _ in range(20):
                    each(site)
                    if site.name in self.hub.away or not site.turn():
                        break
                    moved = True
            moved = self.hub.go_on() or moved
            if until is not None and isinstance(self.hub.stage, until):
                return

    def stop(self) -> None:
        for site in self.sites:
            site.stop()


def unit(numbers: Sequence[int], n: int = SIZE) -> NDArray[np.float32]:
    """Return the mean of the updates of these sites."""
    found = np.zeros(n, np.float32)
    for number in numbers:
        found[number - 1] = 1000.0 / len(numbers)
    return found


def changed(order: Secure, **fields: object) -> Secure:
    """Return an instruction with other fields; its leg follows from its message."""
    found = replace(order, **fields)  # type: ignore[arg-type]
    return replace(found, leg=leg_of(found.message))
