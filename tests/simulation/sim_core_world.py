"""A world of the fast tier: the real machines of both sides, a network that loses, and time.

The words are those of `sim_ops`.  What differs from `sim_world` is what stands between the machines: nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sim_ops as op
from sim_book import Violation, check_explained, check_paused
from sim_core_book import Pages
from sim_core_desk import Desk, first_books
from sim_core_site import Site
from sim_core_words import Call, Put, Sleep
from sim_fate import Disk, Doom, Killed
from sim_plan import CALM, LATENCY, MOST, PATIENCE, SPIN, plan_of
from sim_template import SITES
from sim_time import MachineClock

from unisono import plan as plans
from unisono.base.errors import Unreachable
from unisono.base.ids import ClientName
from unisono.client.runtime.halt import Halted
from unisono.client.runtime.notices import SatOut
from unisono.server.rounds import Ended, Run


def cut() -> Unreachable:
    return Unreachable("the connection broke", 1.0)


@dataclass
class Time:
    """The world's."""

    now: float = 0.0


@dataclass(eq=False)
class CoreWorld:
    """What there is."""

    setting: op.Setting
    time: Time = field(default_factory=Time)
    desk: Desk | None = None
    disk: Disk = field(default_factory=Disk)
    ghosts: list[Call] = field(default_factory=list)
    faults: dict[str, op.Op] = field(default_factory=dict)  # of a site's next call
    messages: int = 0
    _spin: tuple[float, int] = (0.0, 0)
    _first: int = 0
    _looked: Run | None = None

    def __post_init__(self) -> None:
        self.plan = plans.from_canonical(plans.canonical(plan_of(self.setting)))
        self.clock = MachineClock(self.time)
        names = SITES[: self.setting.sites]
        self.sites = [Site(name, number, self.clock, self.plan) for number, name in enumerate(names, 1)]
        numbers = {site.name: site.number for site in self.sites}
        self.book = Pages(self.plan, numbers, now=lambda: self.time.now)
        self.books = first_books(self.plan)

    # messages

    def ready(self, site: Site, *, hurry: bool = True) -> bool:
        """Tell whether something can happen to a site now; without hurry messages take their time."""
        match site.want:
            case None:
                return False
            case Sleep(until):
                return until <= self.time.now
            case Call(desk=None, since=since):
                return hurry or since + LATENCY <= self.time.now
            case Call() as call:
                return call.over or call.lost

    def deliver(self, site: Site) -> None:
        """Let the thing happen that a site waits for."""
        self._count()
        match site.want:
            case Sleep():
                site.resume()
            case Call(desk=None) as call:
                self._arrive(site, call)
            case Call() as call if call.lost or call.deaf:
                site.fail(cut())
            case Call(error=None) as call:
                site.resume(call.reply)
            case Call(error=error):
                assert error is not None
                site.fail(error)

    def _count(self) -> None:
        self.messages += 1
        at, count = self._spin
        self._spin = (at, count + 1) if at == self.time.now else (self.time.now, 1)
        if self._spin[1] > SPIN:
            raise Violation(f"{SPIN} messages, and no time passes")
        if self.messages > MOST:
            raise Violation(f"the run does not end: {MOST} messages by {self.time.now:g} s")

    def _arrive(self, site: Site, call: Call) -> None:
        """Let what a site sends reach the coordinator, or not."""
        self.book.sends(call)
        fault = self.faults.pop(site.name, None)
        if isinstance(fault, op.Late | op.Duplicate):
            self.ghosts.append(call.copy())
        if self.desk is None or isinstance(fault, op.LoseRequest | op.Late):
            site.fail(cut())
            return
        call.deaf = isinstance(fault, op.LoseReply | op.Cut)
        self._serve(call)
        if isinstance(fault, op.Cut):
            self._cut(site)

    def _serve(self, call: Call) -> None:
        desk = self.desk
        assert desk is not None
        self._live(lambda: desk.serve(call))
        if call.over and call.error is None:
            self.book.acknowledged(call, spooled=self._spooled(call))

    def _spooled(self, call: Call) -> bool:
        match call.request:
            case Put((round_, attempt), digest):
                return (round_, attempt, call.site, digest) in self.books.spool
        return False

    def _cut(self, site: Site) -> None:
        """Break a site's connection."""
        if isinstance(call := site.want, Call):
            if call.desk is not None:
                call.desk.cut(call)
            site.fail(cut())

    def _live(self, what: Callable[[], None]) -> None:
        """Let the coordinator do something that it may not survive."""
        try:
            what()
        except Killed:
            assert self.desk is not None
            self.desk.dead, self.desk = True, None

    # time

    def rest(self) -> None:
        """Let the coordinator do what is due, and hold what it waits for against the promise."""
        if (desk := self.desk) is not None:
            self._live(desk.pulse)
        if (desk := self.desk) is None or desk.run is self._looked or isinstance(desk.run.stage, Ended):
            return
        self._looked = desk.run
        check_explained(desk.run, desk.sentence, busy=bool(desk.todo))

    def _works(self) -> bool:
        return self.desk is not None and bool(self.desk.todo) and self.desk.again <= self.time.now

    def run(self, count: int, *, together: bool = False, hurry: bool = True) -> None:
        """Let so many things happen; None is the coordinator's own work."""
        for _ in range(count):
            found: list[Site | None] = [site for site in self.sites if self.ready(site, hurry=hurry)]
            if self._works():
                found.append(None)
            if not found:
                return
            if not together:
                self._first += 1
                found = [found[self._first % len(found)]]
            for who in found:
                self._turn(who, hurry=hurry)
            self.rest()

    def _turn(self, who: Site | None, *, hurry: bool) -> None:
        if who is None:
            if self._works() and self.desk is not None:
                self._count()
                self._live(self.desk.work)
        elif self.ready(who, hurry=hurry):
            self.deliver(who)

    def settle(self) -> None:
        """Let everything happen that is due at this moment."""
        self.rest()
        while self._works() or any(self.ready(site, hurry=False) for site in self.sites):
            self.run(1, together=True, hurry=False)

    def advance(self, seconds: float) -> None:
        end = self.time.now + seconds
        while True:
            self.settle()
            soon = self._soon()
            if soon > end:
                break
            self._count()
            self.time.now = max(self.time.now, soon)
        self.time.now = end
        self.settle()

    def _soon(self) -> float:
        """Return when the next thing happens by itself."""
        times = [float("inf") if self.desk is None else self.desk.next_pulse()]
        for site in self.sites:
            match site.want:
                case Sleep(until):
                    times.append(until)
                case Call(desk=None, since=since):
                    times.append(since + LATENCY)
        return min(times)

    # processes

    def start_coordinator(self) -> None:
        if self.desk is None:
            hooks = self.book.saved, self.book.summed
            self.desk = Desk(self.books, self.plan, self.clock, self.disk, *hooks)
            self.book.loaded(self.desk.run)
            self.book.revived(self.desk.run)
            self.rest()

    def kill_coordinator(self) -> None:
        if self.desk is not None:
            self.desk.dead, self.desk = True, None

    def kill_site(self, site: Site) -> None:
        if isinstance(call := site.want, Call) and call.desk is not None:
            call.desk.cut(call)
        site.kill()

    def _start(self, site: Site) -> None:
        if site.want is None and site.name not in self.books.gone:
            site.start()

    def _leave(self, site: Site) -> None:
        if site.want is not None:
            if isinstance(call := site.want, Call) and call.desk is not None:
                call.desk.cut(call)
            site.fail(Halted())

    def _revoke(self, site: Site) -> None:
        if (desk := self.desk) is not None:
            self._live(lambda: desk.revoke(ClientName(site.name)))

    def _stop(self) -> None:
        if (desk := self.desk) is not None:
            self._live(desk.stop)

    # operations

    def act(self, what: op.Op) -> None:
        match what:
            case op.Run(count, together):
                self.run(count, together=together)
            case op.Only(index, count):
                for _ in range(count):
                    if self.ready(site := self._site(index)):
                        self.deliver(site)
                        self.rest()
            case op.Advance(seconds):
                self.advance(seconds)
            case op.Ghost(which):
                if self.ghosts and self.desk is not None:
                    self._serve(self.ghosts.pop(which % len(self.ghosts)))
            case op.LoseRequest() | op.LoseReply() | op.Duplicate() | op.Late() | op.Cut():
                self.faults[self._site(what.site).name] = what
            case _:
                self._act_on_machines(what)
        self.rest()

    def _act_on_machines(self, what: op.Op) -> None:
        match what:
            case op.KillCoordinator(0):
                self.kill_coordinator()
            case op.KillCoordinator(touches, after):
                if self.desk is not None:
                    self.desk.doom = Doom(touches, after)
            case op.StartCoordinator():
                self.start_coordinator()
            case op.KillSite(index, 0):
                self.kill_site(self._site(index))
            case op.KillSite(index, touches, after):
                self._site(index).fate.doom = Doom(touches, after)
            case op.StartSite(index):
                self._start(self._site(index))
            case op.DiskFull(writes):
                self.disk.full += writes
            case op.DiskBad(touches):
                self.disk.bad += touches
            case _:
                self._act_on_people(what)

    def _act_on_people(self, what: op.Op) -> None:
        match what:
            case op.Slow(index, seconds, mute):
                self._site(index).slow, self._site(index).mute = seconds, mute
            case op.SiteDiskFull(index, writes):
                self._site(index).fate.full += writes
            case op.TaskRaises(index):
                self._site(index).raises += 1
            case op.Leave(index):
                self._leave(self._site(index))
            case op.Revoke(index):
                self._revoke(self._site(index))
            case op.Stop():
                self._stop()
            case op.ClockStep():
                pass  # no machine here looks at a date

    def _site(self, index: int) -> Site:
        return self.sites[index % len(self.sites)]

    # from the beginning to the end

    def play(self, ops: Sequence[op.Op]) -> None:
        self.start_coordinator()
        for site in self.sites[: len(self.sites) - self.setting.absent]:
            site.start()
        for what in ops:
            self.act(what)
        self._heal()
        self._look_back()

    def _heal(self) -> None:
        """Faults stop.  The run has to end."""
        self.disk.full = self.disk.bad = 0
        self.faults.clear()
        if self.messages % 2:  # half of the worlds go on from what is written
            self.kill_coordinator()
        if self.desk is not None:
            self.desk.doom = Doom()
        for site in self.sites:
            site.fate.doom, site.fate.full = Doom(), 0
            site.slow, site.mute, site.raises = 0.0, False, 0
        if not self.books.gone:
            self.book.calm = self.time.now + CALM
        for _ in range(int(PATIENCE / 3)):
            self._begin_all()
            self.advance(3.0)
            if self.book.ended is not None:
                return
        assert self.desk is not None
        check_paused(self.desk.run, self.desk.sentence, self.books.gone, PATIENCE)
        self.act(op.Stop())
        if self.book.ended is None:
            raise Violation(f"it cannot be stopped: {self.desk.run.stage}")

    def _begin_all(self) -> None:
        self.start_coordinator()
        for site in self.sites:
            self._start(site)

    def _look_back(self) -> None:
        """Nothing is left of an ended run, here or at its sites, and no site saw what nobody honest does."""
        self.advance(12.0)
        self.kill_coordinator()
        self._begin_all()
        self.advance(9.0)
        books = self.books
        if books.effects or books.rows or books.spool:
            raise Violation(f"left behind: {books.effects} {len(books.rows)} rows, {list(books.spool)}")
        for site in self.sites:
            for seen in site.seen:
                if isinstance(seen, SatOut):
                    raise Violation(f"{site.name} sat out: {seen.code}: {seen.reason}")
            site.paper.audit()
            states = site.paper.rows("SELECT round, attempt FROM attempts WHERE state IS NOT NULL", ())
            if states and site.want is not None:
                raise Violation(f"{site.name} keeps secrets of {states} of a run that is over")
