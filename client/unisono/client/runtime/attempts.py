"""Open attempts of secure aggregation on the disk: every state before its message, encrypted, 0600.

A state is the whole of what a client knows of an attempt; the row holds the last one.  Secrets go with the
round; what stays until the run ends is what this site let out (`Release`), and the highest attempt that it
saw stays for good.  States of this process are also kept decoded.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from unisono.base.errors import BadConfiguration, Corrupt
from unisono.base.ids import ClientName, Digest, RunId
from unisono.client.session import Attempt
from unisono.crypto import HEADER, TAG, AtRest, encode, layout, plain_length, system_entropy
from unisono.secagg.client import Abandoned, Move, Release, State, decode_state, release_of
from unisono.secagg.client.checks import check_place
from unisono.secagg.client.framed import Framed
from unisono.secagg.client.refusals import StateRolledBack
from unisono.secagg.shared.roster import Pin, manifest_digest

from .vault import Vault

S = TypeVar("S", bound=State)
Also = Callable[[sqlite3.Connection], None]
_NEVER = -1  # of left_round: no round is left out
_NEXT = -2  # the round of the next invitation is, whichever that is
_OF = "run = ? AND round = ? AND attempt = ?"


@dataclass(frozen=True, slots=True)
class SecureRun:
    """What this site holds fast of a run."""

    pins: tuple[Pin, ...]  # none: not pinned yet
    highest: tuple[int, int]  # (round, attempt) that it took part in
    bounds: tuple[float, ...]  # of the codec, as last known; none: never
    bounds_round: int
    stopped: str  # "code: text" of what nobody here has looked at yet
    ended: bool


NEW = SecureRun((), (0, 0), (), 0, "", ended=False)


class Attempts:
    """One thread.  What a method writes is on the disk when it returns."""

    def __init__(self, vault: Vault, key: bytes, place: Mapping[str, str]) -> None:
        self._vault, self._at_rest = vault, AtRest(key)
        self._open: dict[Attempt, State] = {}
        self._written: dict[Attempt, bytes] = {}
        self._released: dict[RunId, list[Release]] = {}  # of attempts whose states are gone
        self._check_states()
        self.rolled_back = self._check_place(place)

    def _check_states(self) -> None:
        """Raise BadConfiguration if a state does not open: what this site said in it would not be known."""
        query = "SELECT run, round, attempt FROM attempts WHERE state IS NOT NULL"
        for run, round_, attempt in self._vault.rows(query, ()):
            try:
                self.state(Attempt(run, round_, attempt))
            except Corrupt as error:
                raise BadConfiguration(
                    f"{self._vault.folder / 'state.db'} holds an attempt (run {run}, round {round_}) that "
                    f"vault.key beside it does not open: {error}\n"
                    "  restore both from one backup, or join again with a new token under a new name"
                ) from None

    # runs

    def run(self, run: RunId) -> SecureRun:
        columns = "pins, round, attempt, bounds, bounds_round, stopped, ended"
        row = self._row(f"SELECT {columns} FROM secure_runs WHERE run = ?", (run,))  # noqa: S608
        if row is None:
            return NEW
        pins, round_, attempt, bounds, bounds_round, stopped, ended = row
        found = tuple(Pin(ClientName(name), Digest(key)) for name, key in json.loads(pins))
        last = tuple(map(float, json.loads(bounds)))
        return SecureRun(found, (round_, attempt), last, bounds_round, stopped, bool(ended))

    def pin(self, run: RunId, pins: Iterable[Pin], case: str) -> None:
        """Hold fast to a run's roster.  `case` says who compared it."""
        rows = [[pin.name, pin.key] for pin in sorted(pins, key=lambda pin: pin.name)]
        digest = manifest_digest(tuple(Pin(ClientName(name), Digest(key)) for name, key in rows))
        with self._vault.transaction() as db:
            _touch(db, run)
            db.execute("UPDATE secure_runs SET pins = ? WHERE run = ?", (json.dumps(rows), run))
            self._vault.note("roster_pinned", run=run, sites=len(rows), digest=digest, compared=case)

    def stop(self, run: RunId) -> tuple[str, float]:
        """Return why nothing more is done in a run, "code: text", and since when; "" if it goes on."""
        row = self._row("SELECT stopped, stopped_wall FROM secure_runs WHERE run = ?", (run,))
        return (row[0], row[1]) if row else ("", 0.0)

    def resume(self, run: RunId) -> bool:
        """Go on with a stopped run, because somebody here has looked.  Tell whether it was stopped."""
        with self._vault.transaction() as db:
            changed = db.execute(
                "UPDATE secure_runs SET stopped = '' WHERE run = ? AND stopped != ''", (run,)
            ).rowcount
            if changed:
                self._vault.note("resumed", run=run)
        return bool(changed)

    # attempts

    def state(self, at: Attempt) -> State | None:
        """Return the state of an attempt, from the disk if this process has not met it."""
        if at not in self._open:
            row = self._row(f"SELECT state FROM attempts WHERE {_OF} AND state IS NOT NULL", _key(at))  # noqa: S608
            if row is None:
                return None
            self._written[at] = self._unseal(at, row[0])
            self._open[at] = decode_state(self._written[at])
        return self._open[at]

    def apply(
        self, at: Attempt, move: Move[S], also: Also | None = None, *, durable: bool = True
    ) -> tuple[S, bytes]:
        """Write a move's state, and what goes with it, in one transaction; return state and message (or "").

        A state that stays the same is not written again.  The first one, keys under which nothing was said,
        need not be `durable`: a power failure takes them and all that was done with them.
        """
        state, message = move.after(lambda data: self._save(at, data, also, durable))
        self._open[at] = state
        return state, message or b""

    def _save(self, at: Attempt, data: bytes, also: Also | None, durable: bool) -> None:
        if self._written.get(at) == data:
            return
        with self._vault.transaction(durable=durable) as db:
            db.execute(
                "INSERT INTO attempts VALUES (?, ?, ?, ?, NULL, '') "
                "ON CONFLICT DO UPDATE SET state = excluded.state",
                (*_key(at), self._seal(at, data)),
            )
            if also is not None:
                also(db)
        self._written[at] = data

    def begun(self, db: sqlite3.Connection, at: Attempt) -> None:
        """Write (in the transaction of the first state) that nothing up to this attempt is begun again."""
        _touch(db, at.run)
        db.execute(
            "UPDATE secure_runs SET round = ?, attempt = ? WHERE run = ?", (at.round, at.attempt, at.run)
        )

    def bounded(self, db: sqlite3.Connection, at: Attempt, bounds: tuple[float, ...]) -> None:
        """Write (in the transaction of a state) which bounds the round has."""
        if bounds:
            db.execute(
                "UPDATE secure_runs SET bounds = ?, bounds_round = ? WHERE run = ?",
                (json.dumps(bounds), at.round, at.run),
            )

    def refuse(self, at: Attempt, code: str, text: str, peer: str, *, stops_run: bool) -> None:
        """Write down that this site sits an attempt out, and leaves its run if nobody honest caused that."""
        with self._vault.transaction() as db:
            db.execute(
                "INSERT INTO attempts VALUES (?, ?, ?, NULL, NULL, ?) "
                "ON CONFLICT DO UPDATE SET refused = excluded.refused",
                (*_key(at), f"{code}: {text}"),
            )
            self._vault.note("refused", **_named(at), code=code, reason=text, peer=peer)
            if stops_run:
                _touch(db, at.run)
                db.execute(
                    "UPDATE secure_runs SET stopped = ?, stopped_wall = ? WHERE run = ?",
                    (f"{code}: {text}", self._vault.wall(), at.run),
                )
                self._vault.note("run_stopped", run=at.run, code=code)

    def refused(self, at: Attempt) -> str:
        """Return why this site sits an attempt out, "code: text"; "" if it does not."""
        row = self._row(f"SELECT refused FROM attempts WHERE {_OF}", _key(at))  # noqa: S608
        return row[0] if row else ""

    def releases(self, run: RunId) -> tuple[Release, ...]:
        """Return what of this site may be opened, or was, in a run."""
        if run not in self._released:
            query = "SELECT release FROM attempts WHERE run = ? AND release IS NOT NULL"
            rows = self._vault.rows(query, (run,))
            self._released[run] = [Release.decode(release) for (release,) in rows]
        present = [release_of(state) for state in self._states(run)]
        return (*self._released[run], *(release for release in present if release is not None))

    def _states(self, run: RunId) -> list[State]:
        rows = self._vault.rows(
            "SELECT round, attempt FROM attempts WHERE run = ? AND state IS NOT NULL", (run,)
        )
        found = [self.state(Attempt(run, round_, attempt)) for round_, attempt in rows]
        return [state for state in found if state is not None]

    def contexts(self, run: RunId) -> set[bytes]:
        """Return the contexts of a run's attempts whose states are here."""
        return {
            state.ctx if isinstance(state, Abandoned) else state.frame.ctx
            for state in self._states(run)
            if isinstance(state, Abandoned | Framed)
        }

    # the end of secrets

    def round_over(self, run: RunId, round_: int) -> tuple[Attempt, ...]:
        """Delete the states of a run's attempts up to this round; return which."""
        return self._delete("run = ? AND round <= ?", (run, round_))

    def run_over(self, run: RunId) -> tuple[Attempt, ...]:
        """Delete everything of a run but the highest attempt seen.  No more of it is done at this site."""
        gone = self._delete("run = ?", (run,))
        with self._vault.transaction() as db:
            db.execute("DELETE FROM attempts WHERE run = ?", (run,))
            db.execute("UPDATE secure_runs SET ended = 1 WHERE run = ?", (run,))
        self._released.pop(run, None)
        return gone

    def _delete(self, condition: str, values: tuple[str | int, ...]) -> tuple[Attempt, ...]:
        found = self._vault.rows(
            f"SELECT run, round, attempt FROM attempts WHERE {condition} AND state IS NOT NULL",  # noqa: S608
            values,
        )
        gone = tuple(Attempt(RunId(run), round_, attempt) for run, round_, attempt in found)
        if not gone:
            return ()
        released = [release_of(state) if (state := self.state(at)) else None for at in gone]
        rows = [(release and release.encode(), *_key(at)) for at, release in zip(gone, released, strict=True)]
        with self._vault.transaction(durable=False) as db:  # until then the state is there, which says more
            db.executemany(f"UPDATE attempts SET state = NULL, release = ? WHERE {_OF}", rows)  # noqa: S608
        for at, release in zip(gone, released, strict=True):
            self._open.pop(at, None)
            self._written.pop(at, None)
            if release is not None and at.run in self._released:
                self._released[at.run].append(release)
        return gone

    # copies

    def leave(self, run: RunId, round_: int, reason: str) -> None:
        """Leave a run's open attempts, and all of a round: the disk does not know what was said in it."""
        self._delete("run = ?", (run,))
        with self._vault.transaction() as db:
            _touch(db, run)
            db.execute("UPDATE secure_runs SET left_round = max(left_round, ?) WHERE run = ?", (round_, run))
            self._vault.note("state_rolled_back", run=run, round=round_, reason=reason)

    def is_left(self, run: RunId, round_: int) -> bool:
        """Tell whether a round is left out.  The first one that is asked about after a copy is."""
        row = self._row("SELECT left_round FROM secure_runs WHERE run = ?", (run,))
        if row is not None and row[0] == _NEXT:
            with self._vault.transaction() as db:
                db.execute("UPDATE secure_runs SET left_round = ? WHERE run = ?", (round_, run))
            return True
        return row is not None and round_ <= row[0]

    def _check_place(self, found: Mapping[str, str]) -> str:
        """Row 3: bind a new file to its place; leave all open attempts of a copy.  Return the reason."""
        written = dict(self._vault.rows("SELECT key, value FROM place", ()))
        reason = ""
        try:
            check_place(written or found, found)
        except StateRolledBack as refusal:
            reason = str(refusal)
        if written == dict(found):
            return ""
        with self._vault.transaction() as db:
            db.execute("DELETE FROM place")
            db.executemany("INSERT INTO place VALUES (?, ?)", found.items())
            if reason:
                for (run,) in db.execute("SELECT run FROM runs").fetchall():
                    _touch(db, run)
                db.execute("UPDATE secure_runs SET left_round = ?", (_NEXT,))
                self._vault.note("state_rolled_back", reason=reason)
        if reason:
            self._delete("1", ())
        return reason

    # bytes

    def _seal(self, at: Attempt, data: bytes) -> bytes:
        header, sealer = self._at_rest.new(system_entropy, _context(at))
        parts = [sealer.seal(data[start:stop], last=last) for _, start, stop, last in layout(len(data))]
        return b"".join((header, *parts))

    def _unseal(self, at: Attempt, sealed: bytes) -> bytes:
        opener = self._at_rest.opener(sealed[:HEADER], _context(at))
        body, size = memoryview(sealed)[HEADER:], plain_length(len(sealed) - HEADER)
        parts, begin = [], 0
        for index, start, stop, last in layout(size):
            end = begin + stop - start + TAG
            parts.append(opener.open(index, body[begin:end], last=last))
            begin = end
        return b"".join(parts)

    def _row(self, query: str, values: tuple[str | int, ...]) -> tuple[Any, ...] | None:
        return next(iter(self._vault.rows(query, values)), None)


def _touch(db: sqlite3.Connection, run: RunId) -> None:
    db.execute(
        "INSERT OR IGNORE INTO secure_runs VALUES (?, '[]', 0, 0, '[]', 0, '', 0.0, ?, 0)", (run, _NEVER)
    )


def _key(at: Attempt) -> tuple[str, int, int]:
    return at.run, at.round, at.attempt


def _named(at: Attempt) -> dict[str, str | int]:
    return {"run": at.run, "round": at.round, "attempt": at.attempt}


def _context(at: Attempt) -> bytes:
    return encode("attempt", *_key(at))
