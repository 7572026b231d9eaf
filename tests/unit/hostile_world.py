"""The federation of the hostile coordinator: the real one in this process, four sites, the real client.

`refusal` plays one case of a lie (`hostile_scheme`), and holds the client to what reference 1.4 promises.
"""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import pytest
from federation_world import Caller, Federation, serving
from hostile_scheme import ALL, CHANGES, HONEST, PLAN, POLICY, VICTIM, Lie, Rounds, Scheme, Transfers
from secure_site import SecureSite

from unisono.base.system_clock import SystemClock
from unisono.client.config import Config
from unisono.client.runtime import ledger
from unisono.client.runtime.approvals import Answer, Approvals
from unisono.client.runtime.enrol import enrol
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.site import World, opened
from unisono.crypto import SigningKey, TlsKey
from unisono.server.rounds import InRound, Securing
from unisono.server.services import server as services
from unisono.wire.v1 import admin_pb2 as admin

if TYPE_CHECKING:
    from pathlib import Path

    from federation_world import Play

    from unisono.client.policy import Policy
    from unisono.client.runtime.notices import Notice
    from unisono.plan import Plan

TASK = """
import numpy as np
from unisono.client import Task

class Adds(Task):
    metric_names = ("loss",)
    def model(self):
        return {"w": np.array([3.0, 4.0], np.float32)}
    def train(self, model, context):
        model["w"] += np.float32((self.site.data / "change.txt").read_text())
        return 2
    def evaluate(self, model, context):
        return {"loss": (2.0, 2.0)}
"""


@dataclass
class Victim:
    """The real client, in a thread."""

    folder: Path
    port: int
    policy: Policy = POLICY
    seen: list[Notice] = field(default_factory=list)
    halt: Halt = field(default_factory=Halt)
    life: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.halt = Halt()
        self.life = asyncio.create_task(asyncio.to_thread(self._live, self.halt))

    def _live(self, halt: Halt) -> None:
        config = Config(
            coordinator=f"localhost:{self.port}",
            tasks={"x": f"{self.folder / 'task.py'}:Adds"},
            data=str(self.folder),
            reconnect_seconds=0.1,
        )
        world = World(self.seen.append, SystemClock(), halt)
        with opened(self.folder, config, self.policy, world) as driver:
            driver.run()
        halt.close()

    async def stop(self) -> None:
        """End it without a goodbye that anybody hears."""
        if self.life is not None:
            life, self.life = self.life, None
            self.halt.ask()
            await life

    async def again(self, policy: Policy | None = None) -> None:
        await self.stop()
        self.policy = policy or self.policy
        self.start()

    def approve(self) -> None:
        """Look at the plan and approve it, as `unisono client plans approve` does."""
        approvals = Approvals(self.folder)
        (record,) = approvals.records()
        approvals.say(record, Answer(said="approved", wall=SystemClock().wall()))

    def audit(self) -> list[ledger.Line]:
        """Return its audit log, the chain checked; it may be running."""
        with suppress(sqlite3.OperationalError):
            db = sqlite3.connect(f"file:{self.folder / 'state.db'}?mode=ro", uri=True)
            try:
                return list(ledger.lines(db))
            finally:
                db.close()
        return []

    def refused(self) -> list[str]:
        """Return the codes of its refusals, as audited."""
        return [str(line.detail["code"]) for line in self.audit() if line.kind == "refused"]


@dataclass
class Hostile:
    """A coordinator that lies, its four sites, its victim."""

    federation: Federation
    scheme: Scheme
    victim: Victim
    callers: list[Caller]
    plan: Plan = PLAN
    sites: list[SecureSite] = field(default_factory=list)
    lives: list[asyncio.Task[None]] = field(default_factory=list)

    async def begin(self) -> None:
        """Start a run, which everybody joins; nobody has said anything yet."""
        for caller in self.callers:
            await caller.hello()
        self.victim.start()
        await self.until(lambda: any(type(n).__name__ == "Connected" for n in self.victim.seen))
        await self.federation.start(self.plan)
        pairs = zip(self.callers, CHANGES, strict=True)
        self.sites = [SecureSite(caller, change, self.plan) for caller, change in pairs]
        await self.until(lambda: self.scheme.left(0, 0) or self.scheme.codes())  # "joined", or not
        if "declined" in [heard.what for heard in self.scheme.heard]:
            return
        for site in self.sites:
            await site.caller.join()
        await self.callers[0].send_model()

    def live(self, *names: str) -> None:
        """Let sites take part, from here on by themselves."""
        for site in self.sites:
            if site.name in (names or HONEST):
                self.lives.append(asyncio.create_task(lives(site), name=site.name))

    async def until(self, true: Callable[[], object]) -> None:
        """Return when it is so; `play` limits how long that may take."""
        while not true():
            for life in (*self.lives, self.victim.life):
                if life is not None and life.done():
                    life.result()
            await asyncio.sleep(0.005)

    @property
    def last(self) -> tuple[int, tuple[str, ...]]:
        """The round that was published last, and its survivors."""
        (lineage,) = self.federation.hall.runs.values()
        return lineage.run.last

    @property
    def attempt(self) -> int:
        (lineage,) = self.federation.hall.runs.values()
        return lineage.run.attempt

    @property
    def uploaded(self) -> tuple[str, ...]:
        """Whose uploads the coordinator has taken in the attempt that is under way."""
        (lineage,) = self.federation.hall.runs.values()
        stage = lineage.run.stage
        phase = stage.phase if isinstance(stage, InRound) else None
        return tuple(name for name, _ in phase.updates) if isinstance(phase, Securing) else ()

    def after(self, case: Case) -> tuple[str, ...]:
        """Return who makes the round after a refusal."""
        if case.code == "share_unreadable":  # the two are kept apart; who stays is the coordinator's choice
            return tuple(name for name in ALL if name != "a")
        return HONEST if case.stops else ALL

    async def published(self, round_: int, who: tuple[str, ...] = ALL) -> None:
        """Wait for a round, and for these survivors."""
        await self.until(lambda: self.last[0] >= round_)
        assert self.last == (round_, who), (self.last, self.scheme.words())

    async def close(self) -> None:
        for life in self.lives:
            life.cancel()
        await asyncio.gather(*self.lives, return_exceptions=True)
        await self.victim.stop()


async def lives(site: SecureSite) -> None:
    """Take part honestly.  Words that come too late are no fault."""
    while True:
        try:
            await site.step()
        except grpc.aio.AioRpcError as error:
            if dict(error.trailing_metadata()).get("unisono-code") != "wrong_phase":
                raise


Keys = dict[str, tuple[TlsKey, bytes, SigningKey]]
Template = tuple["Path", Keys]


@pytest.fixture(scope="module")
def template(founded: Path, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Make the folders of a federation whose sites have joined."""
    path = tmp_path_factory.mktemp("enrolled")
    shutil.copytree(founded, path / "cardio")
    return path, runner.run(enrolled(path))


async def enrolled(path: Path) -> Keys:
    """Enrol four callers and a client's folder, beside the coordinator's; return the callers' keys."""
    keys = {}
    async with serving(path / "cardio") as federation:
        for name in HONEST:
            caller = await federation.client(name)
            assert caller.signing is not None
            keys[name] = caller.key, caller.certificate, caller.signing
        reply = await federation.operator().operate.CreateToken(
            admin.CreateTokenRequest(name=VICTIM, ttl_seconds=60, uses=1)
        )
        address = f"localhost:{federation.port}"
        await asyncio.to_thread(enrol, path / "victim", address, reply.token, SystemClock())
    (path / "victim" / "task.py").write_text(TASK)
    (path / "victim" / "change.txt").write_text("1.0")
    return keys


@asynccontextmanager
async def hostile(
    template: Template,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Policy = POLICY,
) -> AsyncIterator[Hostile]:
    """Serve a copy of what `enrolled` made."""
    made, keys = template
    shutil.copytree(made, path)
    scheme = Scheme({name: signing for name, (_, _, signing) in keys.items()})
    mine = {"scheme": scheme}
    monkeypatch.setattr(services, "RoundService", type("Rounds", (Rounds,), mine))
    monkeypatch.setattr(services, "TransferService", type("Transfers", (Transfers,), mine))
    async with serving(path / "cardio") as federation:
        callers = []
        for name, (key, certificate, signing) in keys.items():
            caller = federation.caller(key, certificate, name)
            caller.signing = signing
            callers.append(caller)
        world = Hostile(federation, scheme, Victim(path / "victim", federation.port, policy), callers)
        try:
            yield world
        finally:
            await world.close()


@dataclass(frozen=True, slots=True)
class Case:
    """Row of reference 1.4 -> what is told -> the code of the refusal."""

    row: int
    name: str
    lie: Lie
    code: str
    same: bool = False  # the lie is about another attempt: the victim takes part in the round's true one
    may: tuple[str, ...] = ()  # what may leave the victim after the first lie

    @property
    def stops(self) -> bool:
        """Whether the site leaves the run until somebody has looked: no honest coordinator can cause it."""
        return self.code in {"own_keys_changed", "survivor_not_signed", "no_quorum", "dead_and_alive"}

    def __str__(self) -> str:
        return f"{self.row}, {self.name}: {self.code}"


async def refusal(template: Template, path: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    """Tell the victim; hold its refusal to what reference 1.4 promises."""
    async with hostile(template, path, monkeypatch) as world:
        scheme, victim, lie = world.scheme, world.victim, case.lie
        scheme.lie = lie
        await world.begin()
        world.live()
        await world.until(lambda: scheme.codes() or world.last[0] > lie.round)
        assert scheme.codes() == [case.code], scheme.words()  # the coordinator learns it
        assert victim.refused() == [case.code], victim.refused()  # the site's ledger has it
        uploaded = "upload" in scheme.left(lie.round, lie.attempt) or case.same
        await world.published(lie.round, ALL if uploaded else HONEST)
        await world.published(lie.round + 1, world.after(case))
        assert scheme.left_since() == list(case.may), scheme.words()  # and nothing else has left
        if case.stops:
            await looked(world, case)
        else:
            assert scheme.codes() == [case.code], scheme.words()


async def looked(world: Hostile, case: Case) -> None:
    """See that the site takes no part in its run until somebody there has looked."""
    kinds = [(line.kind, line.detail.get("code")) for line in world.victim.audit()]
    assert kinds.count(("run_stopped", case.code)) == 1
    assert not world.scheme.left(case.lie.round + 1)
    assert set(world.scheme.codes()) == {case.code}, world.scheme.words()  # asked again, it says so again
    world.victim.approve()
    await world.until(lambda: world.last[1] == ALL)
    assert "resumed" in [line.kind for line in world.victim.audit()]


@pytest.fixture
def tell(
    template: Template, tmp_path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Play a story in a world of its own."""

    def told(story: Callable[[Hostile], object], policy: Policy = POLICY) -> None:
        async def whole() -> None:
            async with hostile(template, tmp_path / "w", monkeypatch, policy) as world:
                await story(world)  # type: ignore[misc]

        play(whole())

    return told


async def refuses(world: Hostile, code: str) -> None:
    """Wait for the refusal, at the coordinator and in the site's ledger."""
    await world.until(world.scheme.codes)
    assert set(world.scheme.codes()) == {code}, world.scheme.words()
    assert world.victim.refused()[:1] == [code], [line.kind for line in world.victim.audit()]
