"""What a site must not forget: who it is, what it agreed to, which updates are finished, what left it.

SQLite in WAL mode with synchronous = FULL: when a method returns, what it says is on the disk.  What a power
failure may take away at no harm (the books of the cache, files that can be made again) is written without
waiting for the disk: a process that is killed loses nothing of it, and the next durable one carries it
along.  Files lie beside it; their rows are written after them and deleted before them, so a row always means
a whole file, or after a power failure one that is missed and made again.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisono.base.clock import Clock
from unisono.base.errors import BadConfiguration
from unisono.base.ids import ClientName, Digest, RunId
from unisono.client.session import Objection, Update, UpdateKey
from unisono.crypto import HEADER, sealed_length

from . import ledger, receipts
from .files import digest_of, private_folder

VERSION = 3  # 2: secure aggregation; 3: receipts
_SCHEMA = (
    """CREATE TABLE identity (
        one INTEGER PRIMARY KEY CHECK (one = 1), federation TEXT NOT NULL, name TEXT NOT NULL,
        number INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE runs (
        run TEXT PRIMARY KEY, plan BLOB NOT NULL, plan_sha256 TEXT NOT NULL, manifest BLOB,
        model_sha256 TEXT, objection TEXT
    ) STRICT""",
    """CREATE TABLE updates (
        run TEXT NOT NULL, round INTEGER NOT NULL, model TEXT NOT NULL, spec TEXT NOT NULL,
        recipient TEXT NOT NULL,
        file TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('finished', 'released', 'over')),
        PRIMARY KEY (run, round, model, spec, recipient)
    ) STRICT""",
    """CREATE TABLE models (
        sha256 TEXT PRIMARY KEY, run TEXT NOT NULL, bytes INTEGER NOT NULL, used INTEGER NOT NULL
    ) STRICT""",
    ledger.SCHEMA,
)
_SECURE = (
    """CREATE TABLE place (
        key TEXT PRIMARY KEY, value TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE secure_runs (
        run TEXT PRIMARY KEY, pins TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,
        bounds TEXT NOT NULL, bounds_round INTEGER NOT NULL, stopped TEXT NOT NULL,
        stopped_wall REAL NOT NULL, left_round INTEGER NOT NULL, ended INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE attempts (
        run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,
        state BLOB, release BLOB, refused TEXT NOT NULL,
        PRIMARY KEY (run, round, attempt)
    ) STRICT""",
)
_ADDED = {1: _SCHEMA, 2: _SECURE, 3: receipts.SCHEMA}  # by version
POLICY, SOMEBODY = "policy", "somebody here"  # who agrees to a plan
NO_EPSILON = "unbounded"  # no differential privacy: no finite epsilon holds
MASKED = (".masked", ".masking")  # files of attempts; see `masking`
_KEY = "run = ? AND round = ? AND model = ? AND spec = ?"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this site is."""

    federation: str
    name: ClientName
    number: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """A run that this site has looked at.  `model` is that of the plan's seed, None if it was not made."""

    run: RunId
    plan: bytes
    digest: Digest
    manifest: bytes | None
    model: Digest | None


class Vault:
    """One file, one writer (the folder's lock holds others off)."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self._clock = folder, clock
        self.updates = private_folder(folder / "updates")
        path = folder / "state.db"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False
        )  # one thread at a time
        self._durable = True
        try:
            self._check(path)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except BaseException:
            self._db.close()
            raise
        self._forget_torn()
        self._sweep()

    def close(self) -> None:
        self._db.close()

    def _check(self, path: Path) -> None:
        """Read the whole file.  Raises BadConfiguration if a page is damaged."""
        try:
            (found,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            raise BadConfiguration(
                f"{path} is damaged or no database: {found.replace(chr(10), ' ')[:200]}\n"
                "  restore it from a backup: it sits out the rounds of which it may not know all"
            )

    def _migrate(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found == VERSION:
            return
        if found > VERSION:
            raise BadConfiguration(
                f"{self.folder / 'state.db'} has schema {found}, written by a later version of unisono; "
                f"this version knows schemas up to {VERSION}\n"
                "  install the later version; an older copy of this folder would not know what left it since"
            )
        with self.transaction() as db:
            for version in range(found + 1, VERSION + 1):
                for statement in _ADDED[version]:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")

    def _forget_torn(self) -> None:
        """Drop the updates whose files a power failure tore: the trainer does not sync them.

        A vector's own tags are checked when it is read.
        """
        kept = self._db.execute(
            "SELECT file, sha256 FROM updates WHERE state != 'over' AND recipient != ''"
        ).fetchall()
        for file, sha256 in kept:
            if digest_of(self.updates / file) != sha256:
                self._drop("file = ?", (file,))

    def _sweep(self) -> None:
        """Remove files that a crash left when their row was over, or before it was written."""
        rows = self.rows("SELECT file FROM updates WHERE state != 'over'", ())
        known = {file for (file,) in rows}
        query = "SELECT run, round, attempt FROM attempts WHERE state IS NOT NULL"
        masked = tuple(f"{run}-{round_}-{attempt}" for run, round_, attempt in self.rows(query, ()))
        for path in self.updates.iterdir():
            if path.name not in known and not (path.suffix in MASKED and _attempt_of(path) in masked):
                path.unlink(missing_ok=True)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Do all of it or nothing; on return it is on the disk, or, if not `durable`, with the kernel."""
        if durable != self._durable:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk ends it, or leaves it open at its COMMIT
                self._db.execute("ROLLBACK")
            raise

    def note(self, kind: str, **detail: str | int) -> None:
        """Add a line to the audit log, in the transaction that is open."""
        ledger.append(self._db, self._clock.wall(), kind, detail)

    def wall(self) -> float:
        """Return the time that audit lines have."""
        return self._clock.wall()

    def rows(self, query: str, values: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
        """Return what a query of `attempts` finds."""
        return self._db.execute(query, values).fetchall()

    def audit(self) -> tuple[ledger.Line, ...]:
        """Return this site's audit log, its chain checked.  Raises Corrupt."""
        return tuple(ledger.lines(self._db))

    # who we are

    def identity(self) -> Identity | None:
        row = self._db.execute("SELECT federation, name, number FROM identity").fetchone()
        return Identity(row[0], ClientName(row[1]), row[2]) if row else None

    def joined(self, identity: Identity, key: str) -> None:
        """Write down an enrolment; `key` is the fingerprint of the signing key."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO identity VALUES (1, ?, ?, ?)",
                (identity.federation, identity.name, identity.number),
            )
            self.note("joined", federation=identity.federation, name=identity.name, key=key)

    # what we agreed to

    def run(self, run: RunId) -> Agreed | None:
        """Return a run that was accepted."""
        row = self._db.execute(
            "SELECT run, plan, plan_sha256, manifest, model_sha256 FROM runs "
            "WHERE run = ? AND objection IS NULL",
            (run,),
        ).fetchone()
        return Agreed(*row) if row else None

    def accept(self, agreed: Agreed, by: str = POLICY) -> None:
        """Write down, before saying so, that this site takes part; again with what was then prepared.

        `by`: its policy, or somebody who has looked at the plan.
        """
        with self.transaction() as db:
            known = self.run(agreed.run)
            db.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, NULL)",
                (agreed.run, agreed.plan, agreed.digest, agreed.manifest, agreed.model),
            )
            if known is None or known.digest != agreed.digest:
                self.note("accepted", run=agreed.run, plan=agreed.digest, by=by)

    def decline(self, run: RunId, plan: bytes, digest: Digest, objection: Objection) -> None:
        """Write down that this site does not take part; the same again adds nothing."""
        text = f"{objection.code}: {objection.reason}"
        with self.transaction() as db:
            row = db.execute("SELECT plan_sha256, objection FROM runs WHERE run = ?", (run,)).fetchone()
            if row == (digest, text):
                return
            db.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, NULL, NULL, ?)", (run, plan, digest, text)
            )
            self.note("declined", run=run, plan=digest, reason=text)

    # what we made

    def update(self, key: UpdateKey, recipient: str) -> Update | None:
        """Return the finished update, sealed to `recipient` (public key, hex), if its file is here, whole.

        With "" as recipient: the vector that is at rest here; then digest and size are of its plain words.
        """
        row = self._db.execute(
            f"SELECT file, sha256, bytes FROM updates WHERE {_KEY} AND recipient = ? AND state != 'over'",  # noqa: S608
            (*_columns(key), recipient),
        ).fetchone()
        if row is None:
            return None
        path, size = self.updates / row[0], row[2] if recipient else HEADER + sealed_length(row[2])
        return Update(key, *row) if path.exists() and path.stat().st_size == size else None

    def finish(self, update: Update, recipient: str) -> None:
        """Write down that an update's file is whole."""
        with self.transaction(durable=False) as db:
            db.execute(
                "INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'finished')",
                (*_columns(update.key), recipient, update.file, update.sha256, update.bytes),
            )

    def release(self, update: Update, protection: str) -> None:
        """Write down, before the first byte leaves, that this update leaves the site."""
        key = update.key
        with self.transaction() as db:
            changed = db.execute(
                "UPDATE updates SET state = 'released' WHERE sha256 = ? AND state = 'finished'",
                (update.sha256,),
            ).rowcount
            if changed:
                self.note(
                    "released", run=key.run, round=key.round, model=key.model, sha256=update.sha256,
                    bytes=update.bytes, protection=protection, epsilon=NO_EPSILON,
                )  # fmt: skip
                sent = (update.sha256, update.bytes)
                receipts.expect(db, (key.run, key.round), sent, protection, self._clock.wall())

    def model_leaves(self, run: RunId, model: Digest, size: int) -> None:
        """Write down that the initial model, made from the plan's seed alone, leaves the site."""
        with self.transaction():
            self.note("model_sent", run=run, sha256=model, bytes=size, protection="tls")

    def forget(self, key: UpdateKey) -> None:
        """Drop an update that the coordinator found to be bad, so that it is made again."""
        self._drop(f"{_KEY}", _columns(key))

    def round_over(self, run: RunId, round_: int) -> None:
        """Drop the files of a run's updates up to this round; that they left stays in the log."""
        self._drop("run = ? AND round <= ?", (run, round_))

    def run_over(self, run: RunId) -> None:
        """Drop the files of all of a run's updates."""
        self._drop("run = ?", (run,))

    def kept(self) -> tuple[tuple[RunId, int], ...]:
        """Return the rounds of which something lies here: finished updates, the secrets of open attempts."""
        query = (
            "SELECT run, round FROM updates WHERE state != 'over' "
            "UNION SELECT run, round FROM attempts WHERE state IS NOT NULL"
        )
        return tuple((run, round_) for run, round_ in self.rows(query, ()))

    def _drop(self, condition: str, values: tuple[str | int, ...]) -> None:
        with self.transaction(durable=False) as db:
            rows = db.execute(
                f"UPDATE updates SET state = 'over' WHERE {condition} AND state != 'over' RETURNING file",  # noqa: S608
                values,
            ).fetchall()
        for (file,) in rows:
            with suppress(FileNotFoundError):
                (self.updates / file).unlink()

    # which models the cache holds

    def model_used(self, run: RunId, model: Digest, size: int) -> None:
        """Note the use of a cached model.  The order of uses decides what is dropped first."""
        with self.transaction(durable=False) as db:
            db.execute(
                "INSERT OR REPLACE INTO models "
                "VALUES (?, ?, ?, (SELECT coalesce(max(used), 0) + 1 FROM models))",
                (model, run, size),
            )

    def strike_off(self, run: RunId, keep: int, most_bytes: int) -> tuple[Digest, ...]:
        """Strike off models, return those that stay: the last `keep` of `run`, of other runs the newest.

        At most `most_bytes` in all, but the newest always stays.
        """
        rows = self._db.execute("SELECT sha256, run, bytes FROM models ORDER BY used DESC").fetchall()
        gone, stay, kept, total = list[Digest](), list[Digest](), 0, 0
        for place, (digest, owner, size) in enumerate(rows):
            kept += owner == run
            if (owner == run and kept > keep) or (place and total + size > most_bytes):
                gone.append(digest)
            else:
                stay.append(digest)
                total += size
        if not gone:
            return tuple(stay)
        with self.transaction(durable=False) as db:
            db.executemany("DELETE FROM models WHERE sha256 = ?", [(digest,) for digest in gone])
        return tuple(stay)


def _attempt_of(masked: Path) -> str:
    """Return r-NUMBER-ROUND-ATTEMPT, which the name of a masked file begins with."""
    return "-".join(masked.stem.split("-")[:4])


def _columns(key: UpdateKey) -> tuple[str, int, str, str]:
    return key.run, key.round, key.model, key.spec
