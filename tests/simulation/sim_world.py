"""A world: a federation, a network that does as it is told, and time.

`play` lives it from a list of operations.  Whatever the list does, in the end faults stop, everybody is
started again, and the run has to end.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sim_ops as op
from grpc import StatusCode
from sim_book import Violation, check_explained, check_paused
from sim_fate import Disk, Doom, Fate, Killed
from sim_house import House
from sim_plan import CALM, LATENCY, MOST, PATIENCE, RUN, SPIN, plan_of
from sim_promises import Promises
from sim_site import Site
from sim_template import SITES
from sim_time import MachineClock, VirtualLoop
from sim_wire import STALL, Ask, Await, Broken, Call, Sleep, cut

from unisono import plan as plans
from unisono.base.errors import Error
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.folder import Folder
from unisono.server.rounds import Ended, Run
from unisono.server.runtime.views import status_of
from unisono.wire.chunks import decode


@dataclass(eq=False)
class World:
    """What there is."""

    setting: op.Setting
    path: Path
    loop: VirtualLoop
    house: House | None = None
    disk: Disk = field(default_factory=Disk)
    ghosts: list[tuple[Call, bytes]] = field(default_factory=list)
    faults: dict[str, op.Op] = field(default_factory=dict)  # of a site's next call
    gone: set[str] = field(default_factory=set)  # revoked
    wrong: list[BaseException] = field(default_factory=list)
    messages: int = 0
    _spin: tuple[float, int] = (0.0, 0)
    _first: int = 0
    _looked: Run | None = None

    def __post_init__(self) -> None:
        self.plan = plan_of(self.setting)
        self.clock = MachineClock(self.loop)
        names = SITES[: self.setting.sites]
        self.sites = [
            Site(name, number, self.path / name, MachineClock(self.loop))
            for number, name in enumerate(names, 1)
        ]
        numbers = {site.name: site.number for site in self.sites}
        self.promises = Promises(
            plans.from_canonical(plans.canonical(self.plan)),
            numbers,
            model=self._model,
            spooled=self._spooled,
            now=lambda: self.loop.now,
        )
        self.loop.set_exception_handler(lambda _, found: self._unexpected(found))

    # what promises look at

    def _model(self, digest: Digest) -> bytes:
        assert self.house is not None
        with self.house.hall.blobs.open(digest) as reader:
            return reader.read(0, reader.size)

    def _spooled(self, place: tuple[str, int, int], site: str, digest: Digest) -> bool:
        assert self.house is not None
        run, round_, attempt = place
        return self.house.hall.spool.path(RunId(run), round_, attempt, ClientName(site), digest).exists()

    def _unexpected(self, found: dict[str, Any]) -> None:
        error = found.get("exception")
        if isinstance(error, BaseException) and not isinstance(error, Killed):
            self.wrong.append(error)

    def _hold(self, check: Callable[[], None]) -> None:
        """Check a promise where the product would swallow what it raises."""
        try:
            check()
        except Violation as broken:
            self.wrong.append(broken)

    # messages

    def ready(self, site: Site, *, hurry: bool = True) -> bool:
        """Tell whether something can happen to a site now; without hurry messages take their time."""
        match site.want:
            case None:
                return False
            case Sleep(until):
                return until <= self.loop.now
            case Ask():
                return hurry or site.since + LATENCY <= self.loop.now
            case Await(call):
                return call.lost or call.over or bool(call.pieces) or call.expires <= self.loop.now

    async def deliver(self, site: Site) -> None:
        """Let the thing happen that a site waits for."""
        self._count()
        match site.want:
            case Sleep():
                site.resume(None)
            case Ask(call, raw):
                await self._arrive(site, call, raw)
            case Await(call):
                self._return(site, call)

    def _count(self) -> None:
        self.messages += 1
        at, count = self._spin
        self._spin = (at, count + 1) if at == self.loop.now else (self.loop.now, 1)
        if self._spin[1] > SPIN:
            raise Violation(f"{SPIN} messages, and no time passes")
        if self.messages > MOST:
            raise Violation(f"the run does not end: {MOST} messages by {self.loop.now:g} s")

    def _return(self, site: Site, call: Call) -> None:
        """Give a site what came back."""
        if call.lost or (call.over and call.deaf):
            return site.fail(cut())
        if call.pieces:
            call.expires = self.loop.now + STALL
            return site.resume(call.pieces.popleft())
        if not call.over:  # too late
            self._cancel(call)
            return site.fail(Broken(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        return site.resume(call.reply) if call.error is None else site.fail(call.error)

    async def _arrive(self, site: Site, call: Call, raw: bytes | None) -> None:
        """Let what a site sends reach the coordinator, or not."""
        self._hold(lambda: self.promises.sent(site.name, call.method, raw))
        if call.lost:
            return site.fail(cut())
        if call.house is not None:
            call.chunks.put_nowait(raw)
            call.expires = self.loop.now + STALL
            return site.resume(None)
        fault = self.faults.pop(site.name, None)
        copied = raw is not None and not call.stall
        if isinstance(fault, op.Late | op.Duplicate) and raw is not None and copied:
            self.ghosts.append((call.copy(), raw))
        house = self.house
        if house is None or not house.opened or isinstance(fault, op.LoseRequest | op.Late):
            return site.fail(cut())
        call.deaf = isinstance(fault, op.LoseReply)
        self._serve(house, call, raw)
        site.resume(None)
        if isinstance(fault, op.Cut):
            for _ in range(fault.steps):
                await asyncio.sleep(0)
            await self._cut(site)
        return None

    def _serve(self, house: House, call: Call, raw: bytes | None) -> None:
        upload = call.method.endswith("/Upload")
        if upload:
            call.chunks.put_nowait(raw)
        house.serve(call, None if upload else raw)
        assert call.task is not None
        call.task.add_done_callback(lambda _: self._answered(call, raw))

    def _answered(self, call: Call, raw: bytes | None) -> None:
        if call.error is not None or call.reply is None or call.lost or raw is None:
            return
        if call.method.endswith("/Upload"):
            self._hold(lambda: self.promises.took(call, decode(raw).key))
        else:
            self._hold(lambda: self.promises.acknowledged(call, raw))

    async def _cut(self, site: Site) -> None:
        """Break a site's connection."""
        if (call := site.call) is not None:
            self._cancel(call)
            site.fail(cut())
        await self.rest()

    @staticmethod
    def _cancel(call: Call) -> None:
        if call.task is not None:
            call.task.cancel()

    async def haunt(self, which: int) -> None:
        """Let one of the requests arrive that nobody waits for."""
        if self.ghosts and self.house is not None and self.house.opened:
            call, raw = self.ghosts.pop(which % len(self.ghosts))
            self._serve(self.house, call, raw)
            await self.rest()

    # time

    async def rest(self) -> None:
        """Return when nothing more happens by itself at this moment, and all promises hold."""
        await self.loop.quiet()
        if self.house is not None and not self.house.dead:
            self.wrong += self.house.server.wrong
        if self.wrong:
            raise self.wrong[0]
        if self.house is not None and self.house.dead:
            await self._bury()
        self._explained()

    def _explained(self) -> None:
        """Every wait has a reason: a sentence, and a time or a name."""
        if self.house is None or (lineage := self.house.hall.runs.get(RUN)) is None:
            return
        run = lineage.run
        if isinstance(run.stage, Ended) or run is self._looked:
            return
        self._looked = run
        sentence = status_of(self.house.hall, lineage)["sentence"]
        check_explained(run, sentence, busy=bool(lineage.driver._todo))

    async def run(self, count: int, *, together: bool = False, hurry: bool = True) -> None:
        for _ in range(count):
            found = [site for site in self.sites if self.ready(site, hurry=hurry)]
            if not found:
                return
            if not together:
                self._first += 1
                found = [found[self._first % len(found)]]
            for site in found:
                if self.ready(site, hurry=hurry):
                    await self.deliver(site)
            await self.rest()

    async def settle(self) -> None:
        """Let everything happen that is due at this moment."""
        await self.rest()
        while any(self.ready(site, hurry=False) for site in self.sites):
            await self.run(1, together=True, hurry=False)

    async def advance(self, seconds: float) -> None:
        end = self.loop.now + seconds
        while True:
            await self.settle()
            soon = self._soon()
            if soon > end:
                break
            self._count()
            self.loop.now = max(self.loop.now, soon)
        self.loop.now = end
        await self.settle()

    def _soon(self) -> float:
        """Return when the next thing happens by itself."""
        times = [self.loop.next_timer()]
        for site in self.sites:
            match site.want:
                case Sleep(until):
                    times.append(until)
                case Ask(call):
                    times.append(min(site.since + LATENCY, call.expires))
                case Await(call):
                    times.append(call.expires)
        return min(times)

    # processes

    async def start_coordinator(self) -> None:
        if self.house is not None:
            return
        saved: Callable[..., None] = lambda *a: self._hold(lambda: self.promises.saved(*a))  # noqa: E731
        try:
            house = House(Folder.find(self.path), self.clock, self.disk, saved)
        except Error:
            return
        self.house = house
        if self.promises.run is not None:
            self._hold(lambda: self.promises.loaded(house.hall.store.load(RUN).run))
        opening = asyncio.ensure_future(house.open())
        await self.loop.quiet()
        assert opening.done(), "the coordinator waits for something at its start"
        if opening.exception() is not None:
            house.dead = True
        await self.rest()

    async def _bury(self) -> None:
        house, self.house = self.house, None
        me = asyncio.current_task()
        assert house is not None
        assert me is not None
        await house.bury(me)

    async def operate(self, story: Callable[[House], Coroutine[Any, Any, object]]) -> None:
        """Let the operator ask for something; nobody promised that it succeeds."""
        if self.house is None or not self.house.opened:
            return
        asked = asyncio.ensure_future(story(self.house))
        await self.rest()
        for _ in range(20):
            if asked.done():
                break
            await self.advance(1.0)
        error = None if asked.cancelled() else asked.exception()
        if error is not None and not isinstance(error, Error | Killed):
            raise error

    async def _leave(self, site: Site) -> None:
        if site.want is None:
            return
        site.halt.ask()
        if (call := site.call) is not None:
            self._cancel(call)
            site.fail(Broken(StatusCode.CANCELLED, "Channel closed!"))
        else:
            site.resume(None)
        await self.rest()

    async def kill_site(self, site: Site) -> None:
        if (call := site.call) is not None:
            self._cancel(call)
        site.kill()
        await self.rest()

    # operations

    async def act(self, what: op.Op) -> None:
        match what:
            case op.Run(count, together):
                await self.run(count, together=together)
            case op.Only(index, count):
                site = self._site(index)
                for _ in range(count):
                    if self.ready(site):
                        await self.deliver(site)
                        await self.rest()
            case op.Advance(seconds):
                await self.advance(seconds)
            case op.Ghost(which):
                await self.haunt(which)
            case (
                op.LoseRequest(index)
                | op.LoseReply(index)
                | op.Duplicate(index)
                | op.Late(index)
                | op.Cut(index)
            ):
                self.faults[self._site(index).name] = what
            case _:
                await self._act_on_machines(what)

    async def _act_on_machines(self, what: op.Op) -> None:
        match what:
            case op.KillCoordinator(0):
                if self.house is not None:
                    self.house.dead = True
                    await self.rest()
            case op.KillCoordinator(touches, after):
                if self.house is not None:
                    self.house.doom = Doom(touches, after)
            case op.StartCoordinator():
                await self.start_coordinator()
            case op.KillSite(index, 0):
                await self.kill_site(self._site(index))
            case op.KillSite(index, touches, after):
                self._site(index).fate.doom = Doom(touches, after)
            case op.StartSite(index):
                site = self._site(index)
                if site.want is None and site.name not in self.gone:
                    site.start()
            case _:
                await self._act_on_people(what)

    async def _act_on_people(self, what: op.Op) -> None:
        match what:
            case op.Slow(index, seconds, mute):
                self._site(index).slow, self._site(index).mute = seconds, mute
            case op.SiteDiskFull(index, writes):
                self._site(index).fate.full += writes
            case op.TaskRaises(index):
                self._site(index).raises += 1
            case op.Leave(index):
                await self._leave(self._site(index))
            case op.Revoke(index):
                await self._revoke(self._site(index))
            case op.Stop():
                await self.operate(lambda house: house.operators.stop_run(RUN, "operator"))
            case op.DiskFull(writes):
                self.disk.full += writes
            case op.DiskBad(touches):
                self.disk.bad += touches
            case op.ClockStep(index, seconds):
                clock = self.clock if index < 0 else self._site(index).clock
                clock.wrong += seconds

    async def _revoke(self, site: Site) -> None:
        await self.operate(lambda house: house.operators.revoke(ClientName(site.name), "", "operator"))
        if self.house is not None:
            with suppress(StopIteration):
                found = next(c for c in self.house.hall.store.clients(site.name))
                if not found.enrolled:
                    self.gone.add(site.name)

    def _site(self, index: int) -> Site:
        return self.sites[index % len(self.sites)]

    # from the beginning to the end

    async def play(self, ops: Sequence[op.Op]) -> None:
        await self.begin()
        for what in ops:
            await self.act(what)
        await self.heal()

    async def begin(self) -> None:
        await self.start_coordinator()
        plan = plans.canonical(self.plan)
        await self.operate(lambda house: house.operators.start_run(plan, None, None, "operator"))
        for site in self.sites[: len(self.sites) - self.setting.absent]:
            site.start()

    async def heal(self) -> None:
        """Faults stop.  The run has to end, and nothing may be left of it."""
        self.disk.full = self.disk.bad = 0
        self.faults.clear()
        self.clock.wrong = 0.0
        if self.house is not None:
            self.house.doom = Doom()
        for site in self.sites:
            site.fate, site.slow, site.mute, site.raises = Fate(), 0.0, False, 0
            site.clock.wrong = 0.0
        if not self.gone:
            self.promises.calm = self.loop.now + CALM
        for _ in range(int(PATIENCE / 3)):
            await self.start_coordinator()
            for site in self.sites:
                if site.want is None and site.name not in self.gone:
                    site.start()
            await self.advance(3.0)
            if self.promises.ended is not None:
                break
        else:
            await self._paused()

    async def _paused(self) -> None:
        """Only a run whose certified survivors were revoked may wait: it names them, and can be stopped."""
        assert self.house is not None
        lineage = self.house.hall.runs.get(RUN)
        if lineage is None:
            raise Violation("the run has not ended, and nothing drives it")
        sentence = status_of(self.house.hall, lineage)["sentence"]
        check_paused(lineage.run, sentence, self.gone, PATIENCE)
        await self.act(op.Stop())
        if self.promises.ended is None:
            raise Violation(f"it cannot be stopped: {lineage.run.stage}")
