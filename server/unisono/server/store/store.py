"""The coordinator's durable state, as methods: one method, one transaction."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import sqlalchemy as sa

from unisono.base.errors import BadConfiguration
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import AtRest
from unisono.server.rounds import Effect, Run, Step

from . import audit, enrolling, published, saving, schema, views
from .canonical import canonical
from .changes import Change, Stored
from .database import Database
from .enrolling import Certificate, Client, Enrolling, Token
from .ledger import Ledger
from .lock import FolderLock
from .migrating import migrate
from .published import Sheet
from .views import LATEST, Document, Window


def open_store(folder: Path, at_rest: AtRest | None = None) -> "Store":
    """Open the state in `folder`, made or migrated if need be, and keep other coordinators out until `close`.

    `at_rest`: the key of the ledger of secure aggregation; without it that can be neither written nor read.

    Raises BadConfiguration if there is no such folder, another coordinator uses it, or a later version wrote
    it.
    """
    if not folder.is_dir():
        raise BadConfiguration(
            f"there is no folder {folder}; make a federation with: unisono init DIR --host HOST"
        )
    lock = FolderLock(folder)
    database = None
    try:
        database = Database(folder / "state.db")
        database.check()
        migrate(database)
    except BaseException:
        if database is not None:
            database.close()
        lock.close()
        raise
    return Store(database, lock, Ledger(at_rest))


class Store:
    """Runs, rounds, models, clients, tokens, audit log.  May be called from any thread.

    A method that returned has its effect on the disk; one that raised has none.  Unavailable means that the
    same call may succeed later (disk full, database busy).
    """

    def __init__(self, database: Database, lock: FolderLock, ledger: Ledger) -> None:
        self._database, self._lock, self._ledger = database, lock, ledger

    def close(self) -> None:
        """Release the folder."""
        self._database.close()
        self._lock.close()

    # Runs: what the driver needs

    def create(self, plan: bytes, sha256: Digest, step: Step, now: float, wall: float, by: str) -> RunId:
        """Save a new run with its first step; its plan is canonical bytes."""
        change = Change(step.run, now, wall, effects=step.effects, facts=step.facts, rows=step.rows)
        with self._database.write() as connection:
            return saving.create(connection, self._ledger, plan, sha256, by, change)

    def load(self, run: RunId) -> Stored:
        """Return a run as it was saved last.  Raises NotFound."""
        with self._database.read() as connection:
            return saving.load(connection, self._ledger, run)

    def active(self) -> tuple[RunId, ...]:
        """Return the runs that need a driver, the oldest first."""
        with self._database.read() as connection:
            return saving.active(connection)

    def save(self, run: RunId, change: Change) -> tuple[int, ...]:
        """Write all of `change` in one transaction; return the numbers given to the new effects."""
        with self._database.write() as connection:
            return saving.save(connection, self._ledger, run, change)

    def todo(self, run: RunId) -> tuple[tuple[int, Effect], ...]:
        """Return the effects not known to be done, by their numbers."""
        with self._database.read() as connection:
            return saving.todo(connection, run)

    def ended(self, limit: int) -> tuple[tuple[RunId, Run], ...]:
        """Return the runs that ended last, the newest first."""
        with self._database.read() as connection:
            return views.ended(connection, limit)

    # Files: which of them somebody needs

    def prunable(self, run: RunId, upto: int, keep: Collection[Digest]) -> tuple[Digest, ...]:
        """Return the files, models and vectors, that Prune(upto, keep) frees and no other run needs."""
        with self._database.read() as connection:
            return saving.prunable(connection, run, upto, keep)

    def pruned(self, run: RunId, upto: int, keep: Collection[Digest], wall: float) -> None:
        """Note that they are deleted."""
        with self._database.write() as connection:
            saving.pruned(connection, run, upto, keep, wall)

    def owned(self) -> frozenset[Digest]:
        """Return the digests of all files that some run needs."""
        with self._database.read() as connection:
            return views.owned(connection)

    def find_model(self, sha256: Digest) -> tuple[RunId, ...]:
        """Return the runs that have this model."""
        with self._database.read() as connection:
            return views.owners(connection, sha256)

    def rosters_of_model(self, sha256: Digest) -> tuple[frozenset[ClientName], ...]:
        """Return who took part in each run that has this model."""
        with self._database.read() as connection:
            return views.rosters(connection, sha256)

    def put_manifest(self, sha256: Digest, body: bytes) -> None:
        """Keep a manifest's canonical bytes; the same one twice is fine."""
        with self._database.write() as connection:
            saving.put_manifest(connection, sha256, body)

    def manifest(self, sha256: Digest) -> bytes:
        """Return a manifest's canonical bytes.  Raises NotFound."""
        with self._database.read() as connection:
            return saving.manifest(connection, sha256)

    def published(self, rounds: Iterable[tuple[RunId, int]]) -> Mapping[tuple[RunId, int], Sheet | bool]:
        """Return what was signed of rounds; of one of which nothing was, whether nothing will be any more."""
        with self._database.read() as connection:
            return {at: published.find(connection, *at) or views.is_over(connection, *at) for at in rounds}

    # Documents for people and scripts

    def show(self, run: RunId, window: Window = LATEST) -> Document:
        """Return the document of `run show ID --json` (design section 8).  Raises NotFound."""
        with self._database.read() as connection:
            return views.show(connection, run, window)

    def runs(self, before: int = 0) -> Document:
        """Return the document of `run list`: the newest runs, or those before number `before`, as fit."""
        with self._database.read() as connection:
            return views.runs(connection, before)

    def latest(self) -> RunId:
        """Return the newest run.  Raises NotFound."""
        with self._database.read() as connection:
            return views.latest(connection)

    def models(self, run: RunId, before: int = 0) -> Document:
        """Return the document of `model list`: models that exist, by round, as fit.  Raises NotFound."""
        with self._database.read() as connection:
            return views.models(connection, run, before)

    def events(self, run: RunId, since: int, limit: int = 200) -> list[Document]:
        """Return what happened to a run after audit line `since`, at most the last `limit` things."""
        with self._database.read() as connection:
            return views.events(connection, run, since, limit)

    def brief_rounds(self, run: RunId) -> Document:
        """Return all published rounds of a run, short.  Raises NotFound."""
        with self._database.read() as connection:
            return views.brief_rounds(connection, run)

    def releases(self, run: RunId) -> Document:
        """Return what of a run was opened and signed for.  Raises NotFound."""
        with self._database.read() as connection:
            return views.releases(connection, run)

    def participation(self) -> Document:
        """Return what each client did so far, by its name under "clients"."""
        with self._database.read() as connection:
            return views.participation(connection)

    def sizes_of_task(self, task: str) -> Document:
        """Return "model_bytes" and "coordinates" of the latest run of a task that has a model; else nulls."""
        with self._database.read() as connection:
            return views.sizes_of_task(connection, task)

    def audit_page(self, before: int, limit: int) -> tuple[int, Digest, tuple[audit.Line, ...]]:
        """Return the audit log's length, its head, and lines below `before` (0: the last), newest first."""
        with self._database.read() as connection:
            return *audit.head(connection), audit.page(connection, before, limit, views.SHARE)

    def audit(self, limit: int = 100, *, run: str = "", after: int = 0) -> tuple[audit.Line, ...]:
        """Return the last audit lines in their order: of one run if named, numbered above `after`."""
        with self._database.read() as connection:
            return audit.latest(connection, limit, run, after)

    def verify_audit(self) -> tuple[int, Digest]:
        """Return the number of lines and the last hash.  Raises Corrupt naming the first changed line."""
        with self._database.read() as connection:
            return audit.verify(connection)

    # Enrolment (see `enrolling`)

    def add_token(self, serial: str, name: str, uses: int, not_after: float, by: str, wall: float) -> None:
        """Record a token before it is given away."""
        with self._database.write() as connection:
            Enrolling(connection, wall).add_token(serial, name, uses, not_after, by)

    def redeem(self, serial: str, spki: Digest, wall: float) -> tuple[ClientName, int]:
        """Enrol the bearer of a token.  Raises BadCredentials."""
        with self._database.write() as connection:
            return Enrolling(connection, wall).redeem(serial, spki)

    def record(self, kind: str, name: str, serial: str, not_after: float, wall: float) -> None:
        """Record a TLS certificate before it is given away."""
        with self._database.write() as connection:
            Enrolling(connection, wall).record(kind, name, serial, not_after)

    def record_signing(self, name: str, certificate: str, wall: float) -> None:
        """Record a client's signing certificate (PEM)."""
        with self._database.write() as connection:
            Enrolling(connection, wall).record_signing(name, certificate)

    def revoke(self, name: str, reason: str, by: str, wall: float) -> None:
        """Revoke a client, or the tokens with a name.  Raises NotFound."""
        with self._database.write() as connection:
            Enrolling(connection, wall).revoke(name, reason, by)

    def revoke_operator(
        self, name: str, reason: str, by: str, wall: float, *, force: bool
    ) -> tuple[int, int]:
        """Revoke an operator's certificates and tokens; return how many.  Raises NotFound, Refused."""
        with self._database.write() as connection:
            return Enrolling(connection, wall).revoke_operator(name, reason, by, force=force)

    def seen(self, name: str, software: str, wall: float) -> None:
        """Note that a client said hello."""
        with self._database.write() as connection:
            Enrolling(connection, wall).seen(name, software)

    def clients(self, name: str | None = None) -> tuple[Client, ...]:
        """Return all clients, or the one of that name, by their numbers; revoked ones too."""
        with self._database.read() as connection:
            return enrolling.clients(connection, name)

    def client_figures(self) -> tuple[int, int, float | None]:
        """Return how many clients are enrolled and revoked, and when the first of their certificates ends."""
        with self._database.read() as connection:
            return enrolling.figures(connection)

    def tokens(self) -> tuple[Token, ...]:
        """Return all tokens, the newest first."""
        with self._database.read() as connection:
            return enrolling.tokens(connection)

    def certificates(self, name: str | None = None) -> tuple[Certificate, ...]:
        """Return the TLS certificates that were issued and not revoked: all, or those with a name."""
        with self._database.read() as connection:
            return enrolling.certificates(connection, name)

    # Facts about the federation itself

    def note(self, kind: str, about: Document, wall: float, *, key: str, value: str) -> None:
        """Add a line to the audit log that belongs to no run and no member; keep what `put_meta` would."""
        with self._database.write() as connection:
            audit.append(connection, wall, audit.Entry(kind, body=canonical(about)))
            _keep(connection, key, value)

    def put_meta(self, key: str, value: str) -> None:
        """Keep a short text, for example under "federation"."""
        with self._database.write() as connection:
            _keep(connection, key, value)

    def get_meta(self, key: str) -> str | None:
        """Return what `put_meta` kept."""
        table = schema.meta
        with self._database.read() as connection:
            return connection.scalar(table.select().with_only_columns(table.c.value).filter_by(key=key))


def _keep(connection: sa.Connection, key: str, value: str) -> None:
    table = schema.meta
    connection.execute(table.delete().where(table.c.key == key))
    connection.execute(table.insert().values(key=key, value=value))
