"""Who is connected, what each client is doing, and since when nothing has moved.

In memory only: after a restart everybody says hello again, and everybody's idle clock starts anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from unisono.base.clock import Clock
from unisono.base.errors import Refused, Unavailable
from unisono.base.hours import DAY, Hours
from unisono.base.ids import ClientName, RunId
from unisono.base.pacing import Bucket
from unisono.base.units import show_bytes

RATE = 5.0  # what one client may say a second: each may be written and audited
BURST = 20 * RATE  # and at once
MOST_REST = DAY + 3600.0  # that a client may rest: its hours come once a day, and a clock may be set back
FRESH = 60.0  # a client's word that it rests holds for so long: it says so every 10 s while it is asked
RESTING = "resting"  # the stage of a client that waits for its own hours


class HelloFirst(Refused):
    """The coordinator does not know this connection (it was restarted); say hello again."""

    code = "hello_first"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a client said about itself."""

    software: str
    protocol: int
    tasks: frozenset[str]
    protections: frozenset[str]
    strategies: frozenset[str]
    upload_limit: float = 0.0  # bytes a second that the site allows itself; 0: any
    hours: Hours | None = None  # in which the site fetches and sends, its local time


@dataclass(slots=True)
class Session:
    """One client since its last hello."""

    greeting: Greeting
    seen: float
    moved: float
    left: bool = False
    stage: str = ""
    done: int = 0
    total: int = 0
    rests: RunId | None = None  # the run whose transfer waits for the client's hours
    since: float = 0.0  # when it began to rest
    rested: float = 0.0  # when it said so last


@dataclass(slots=True)
class Presence:
    """Sessions by client.  All times are ticks."""

    clock: Clock
    patience: float  # seconds without a call after which a client counts as offline
    rate: float = RATE  # of what one client may say
    _sessions: dict[ClientName, Session] = field(default_factory=dict)
    _said: dict[ClientName, Bucket] = field(default_factory=dict)
    _expected: dict[tuple[str, ClientName], float] = field(default_factory=dict)

    def hello(self, client: ClientName, greeting: Greeting) -> None:
        """Begin a session, or begin it again."""
        now = self.clock.ticks()
        self._sessions[client] = Session(greeting, now, now)

    def spend(self, client: ClientName) -> None:
        """Take one from what a client may still say.  Raises Unavailable when it talks without end."""
        bucket = self._said.setdefault(client, Bucket(self.rate, BURST / RATE * self.rate))
        if wait := bucket.spend(self.clock.ticks()):
            raise Unavailable(f"{client} says more than {self.rate:g} things a second", wait)

    def seen(self, client: ClientName) -> Session:
        """Note a call.  Raises HelloFirst if there was no hello since this process started."""
        session = self._sessions.get(client)
        if session is None:
            raise HelloFirst(f"{client} has not said hello to this coordinator process")
        session.seen, session.left = self.clock.ticks(), False
        return session

    def moved(self, client: ClientName, stage: str, done: int, total: int) -> None:
        """Note progress.  A client reports only what moved, in percent: a long percent is said many times."""
        session = self.seen(client)
        session.stage, session.done, session.total = stage, done, total
        session.moved, session.rests = session.seen, None

    def rests(self, client: ClientName, run: RunId) -> None:
        """Note that a client waits for its own hours.  That is a sign of life, for a day at most."""
        session = self.seen(client)
        if session.stage != RESTING:
            session.since = session.seen
        session.stage, session.done, session.total = RESTING, 0, 0
        session.rests, session.rested = run, session.seen
        if session.seen - session.since < MOST_REST:
            session.moved = session.seen

    def note(self, client: ClientName, run: RunId) -> str:
        """Say how a client's own limits hold up a run that waits for it, or nothing."""
        session = self._sessions.get(client)
        if session is None:
            return ""
        hours, limit = session.greeting.hours, session.greeting.upload_limit
        if self._rests(session) == run and hours is not None:
            return f"sends {hours.words} only"
        if session.stage == "uploading" and limit:
            return f"sends at most {show_bytes(limit).replace('.0 ', ' ')}/s"
        return ""

    def is_resting(self, client: ClientName) -> bool:
        """Tell whether a client waits for its own hours: then its silence is no matter of seconds."""
        session = self._sessions.get(client)
        return session is not None and self._rests(session) is not None

    def rested(self, client: ClientName, run: RunId) -> float:
        """Return for how many seconds a client has made a run wait for its hours; -1: it does not."""
        session = self._sessions.get(client)
        rests = session is not None and self._rests(session) == run
        return self.clock.ticks() - session.since if session is not None and rests else -1.0

    def _rests(self, session: Session) -> RunId | None:
        """Return the run that waits for a client's hours, by its last word.

        Who was left out of a round for that is asked nothing, and says nothing when its hours begin.
        """
        return session.rests if self.clock.ticks() - session.rested <= FRESH else None

    def waits(self, client: ClientName) -> None:
        """Note that a client is made to wait by us: its silence does not count."""
        session = self._sessions.get(client)
        if session is not None:
            session.seen = session.moved = self.clock.ticks()

    def settled(self, client: ClientName) -> None:
        """Forget what a client was doing, because it is done."""
        session = self._sessions.get(client)
        if session is not None:
            session.stage, session.done, session.total = "", 0, 0
            session.rests = None

    def left(self, client: ClientName) -> None:
        """Note that a client said goodbye."""
        session = self._sessions.get(client)
        if session is not None:
            session.left = True

    def forget(self, client: ClientName) -> None:
        """Drop a session, so that its next call has to begin with hello."""
        self._sessions.pop(client, None)

    def get(self, client: ClientName) -> Session | None:
        return self._sessions.get(client)

    def online(self) -> dict[ClientName, Session]:
        """Return those who called lately and did not say goodbye."""
        oldest = self.clock.ticks() - self.patience
        return {c: s for c, s in self._sessions.items() if s.seen >= oldest and not s.left}

    def silence(self, run: str, expected: Iterable[ClientName]) -> dict[ClientName, float]:
        """Return the seconds since each client expected by `run` last moved or began to be expected."""
        now, wanted = self.clock.ticks(), frozenset(expected)
        for key in [k for k in self._expected if k[0] == run and k[1] not in wanted]:
            del self._expected[key]
        quiet: dict[ClientName, float] = {}
        for client in wanted:
            since = self._expected.setdefault((run, client), now)
            session = self._sessions.get(client)
            quiet[client] = now - max(since, session.moved if session else since)
        return quiet
