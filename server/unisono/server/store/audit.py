"""The audit log: who did what, in lines that are chained by their hashes.

Each line's hash covers all of it and the line before, so a line cannot be changed, taken out or moved without
changing every later one.  Who writes down the latest hash elsewhere can tell that the whole was not replaced.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import sqlalchemy as sa

from unisono.audit.chain import START, coordinator_line
from unisono.base.errors import Corrupt
from unisono.base.ids import Digest
from unisono.secagg.shared.messages import Abandon, Upload
from unisono.server.rounds import Event, Fact, Said, Tick

from . import schema
from .canonical import canonical
from .fitting import fitting

_TABLE = schema.audit
_LAST = sa.select(_TABLE.c.seq, _TABLE.c.hash).order_by(_TABLE.c.seq.desc()).limit(1)
_ADD = _TABLE.insert()
_LINE = 300  # bytes of a line in a document, beside its body


@dataclass(frozen=True, slots=True)
class Entry:
    """What a line says.  Never a secret: events, names and digests only."""

    kind: str
    subject: str = ""  # whom it is about
    run: str = ""
    body: str = "{}"  # canonical JSON


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it was written."""

    seq: int
    wall: float
    entry: Entry
    previous: Digest
    hash: Digest


Occurrence: TypeAlias = Event | Fact


def append(connection: sa.Connection, wall: float, *entries: Entry) -> None:
    """Add lines, in the transaction that does what they tell of."""
    if not entries:
        return
    seq, previous = head(connection)
    rows = []
    for entry in entries:
        seq += 1
        own = _hash(previous, seq, wall, entry)
        rows.append(
            {"seq": seq, "wall": float(wall), "previous": previous, "hash": own}
            | {"kind": entry.kind, "subject": entry.subject, "run": entry.run, "body": entry.body}
        )
        previous = own
    connection.execute(_ADD, rows)


def entry_of(run: str, occurrence: Occurrence) -> Entry | None:
    """Return the line that tells of an event or fact; None for the mere passing of time."""
    if isinstance(occurrence, Tick):
        return None
    if isinstance(occurrence, Said):
        return _said(run, occurrence)
    body = {f.name: getattr(occurrence, f.name) for f in fields(occurrence) if f.name != "described"}
    subject = body.pop("client", "") or ""
    kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(occurrence).__name__).lower()
    return Entry(kind, subject, run, canonical(body))


def _said(run: str, said: Said) -> Entry | None:
    """Tell of what binds somebody: an upload, and the promise never to open.  The ledger holds the rest."""
    message = said.message
    if not isinstance(message, Upload | Abandon):
        return None
    body: dict[str, object] = {"round": said.round, "attempt": said.attempt}
    if isinstance(message, Upload):
        body |= {"bytes": said.bytes, "digest": said.digest}
    kind = "uploaded" if isinstance(message, Upload) else "abandoned"
    return Entry(kind, said.client, run, canonical(body))


def latest(connection: sa.Connection, limit: int, run: str, after: int) -> tuple[Line, ...]:
    """Return the last `limit` lines in their order: of one run (empty: of all), numbered above `after`."""
    query = sa.select(_TABLE).where(_TABLE.c.seq > after).order_by(_TABLE.c.seq.desc()).limit(limit)
    if run:
        query = query.where(_TABLE.c.run == run)
    return tuple(_line(row) for row in reversed(connection.execute(query).all()))


def page(connection: sa.Connection, before: int, limit: int, most_bytes: int) -> tuple[Line, ...]:
    """Return at most `limit` lines below number `before` (0: the last), newest first, as fit into bytes."""
    query = sa.select(_TABLE).order_by(_TABLE.c.seq.desc()).limit(limit)
    if before:
        query = query.where(_TABLE.c.seq < before)
    with connection.execute(query) as rows:
        return tuple(_line(row) for row in fitting(rows, lambda row: len(row.body) + _LINE, most_bytes))


def head(connection: sa.Connection) -> tuple[int, Digest]:
    """Return the number of the last line and its hash."""
    last = connection.execute(_LAST).first()
    return (last.seq, Digest(last.hash)) if last is not None else (0, START)


def verify(connection: sa.Connection) -> tuple[int, Digest]:
    """Return the number of lines and the last hash.  Raises Corrupt naming the first that does not fit."""
    count, previous = 0, START
    for row in connection.execution_options(yield_per=1000).execute(sa.select(_TABLE).order_by(_TABLE.c.seq)):
        line = _line(row)
        if line.seq != count + 1:
            raise Corrupt(f"audit line {count + 1} is missing: line {count} is followed by line {line.seq}")
        if line.previous != previous or line.hash != _hash(previous, line.seq, line.wall, line.entry):
            raise Corrupt(f"audit line {line.seq} ({line.entry.kind}) was changed after it was written")
        count, previous = line.seq, line.hash
    return count, previous


def _line(row: sa.Row[Any]) -> Line:
    entry = Entry(row.kind, row.subject, row.run, row.body)
    return Line(row.seq, row.wall, entry, Digest(row.previous), Digest(row.hash))


def _hash(previous: Digest, seq: int, wall: float, entry: Entry) -> Digest:
    return coordinator_line(previous, seq, wall, (entry.kind, entry.run, entry.subject, entry.body))
