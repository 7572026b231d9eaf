"""How a run is written and read back.  Every function is part of a transaction that its caller opens."""

import json
from collections.abc import Collection

import sqlalchemy as sa

from unisono.base.errors import NotFound
from unisono.base.ids import Digest, RunId
from unisono.server.rounds import (
    Effect,
    Ended,
    Event,
    Fact,
    InRound,
    Run,
    Waiting,
    decode,
    decode_effect,
    encode,
    encode_effect,
)
from unisono.tensors import Manifest

from . import audit, published, schema
from .canonical import canonical
from .changes import Change, Stored
from .ledger import Ledger
from .rows import Rows

_RUNS, _EFFECTS = schema.runs, schema.effects

# Built once: see `rows`.
_NEXT_EFFECT = sa.select(_RUNS.c.next_effect).where(_RUNS.c.id == sa.bindparam("run_key"))
_ORDER = _EFFECTS.insert()
_STRIKE_OFF = _EFFECTS.delete().where(
    _EFFECTS.c.run == sa.bindparam("run_key"), _EFFECTS.c.seq == sa.bindparam("seq_key")
)
_GO_ON = _RUNS.update().where(_RUNS.c.id == sa.bindparam("run_key"))
_END = _GO_ON.values(  # the first such save, not one that strikes off what was left
    ended_wall=sa.func.coalesce(_RUNS.c.ended_wall, sa.bindparam("wall"))
)


def create(
    connection: sa.Connection, ledger: Ledger, plan: bytes, sha256: Digest, by: str, change: Change
) -> RunId:
    """Make the row of a new run, then save its first change."""
    number = (connection.scalar(sa.select(sa.func.max(_RUNS.c.number))) or 0) + 1
    run = RunId(f"r-{number:04d}")
    connection.execute(
        _RUNS.insert().values(
            id=run,
            number=number,
            plan=plan,
            plan_sha256=sha256,
            task=json.loads(plan)["task"],
            started_by=by,
            created_wall=change.wall,
            updated_wall=change.wall,
            machine_now=change.now,
            **_state(change.run),
        )
    )
    told = audit.Entry("run_created", "", run, canonical({"plan_sha256": sha256, "by": by}))
    audit.append(connection, change.wall, told)
    save(connection, ledger, run, change)
    return run


def save(connection: sa.Connection, ledger: Ledger, run: RunId, change: Change) -> tuple[int, ...]:
    """Write all of a change; return the numbers of its new effects."""
    first = connection.scalar(_NEXT_EFFECT, {"run_key": run})
    if first is None:
        raise NotFound(f"there is no run {run}")
    rows = Rows(connection, run, change.wall)
    _strike_off(connection, run, change.done)
    numbers = tuple(range(first, first + len(change.effects)))
    if numbers:
        ordered = zip(numbers, change.effects, strict=True)
        connection.execute(_ORDER, [{"run": run, "seq": n, "body": encode_effect(e)} for n, e in ordered])
    for event in change.events:
        rows.event(event)
    for fact in change.facts:
        rows.fact(fact)
    for traffic in change.traffic:
        rows.traffic(*traffic)
    ledger.append(connection, run, change.rows)
    ledger.forget(connection, run, change.facts)
    _update(connection, run, change, first + len(numbers))
    _tell(connection, run, change.wall, (*change.events, *change.facts))
    published.record(connection, run, change.wall, change.facts)
    return numbers


def load(connection: sa.Connection, ledger: Ledger, run: RunId) -> Stored:
    """Return the run as it was saved last."""
    row = connection.execute(sa.select(_RUNS).where(_RUNS.c.id == run)).first()
    if row is None:
        raise NotFound(f"there is no run {run}")
    found = decode(row.machine)
    rows = ledger.read(connection, run, found.stage.round) if isinstance(found.stage, InRound) else ()
    return Stored(row.plan, found, row.machine_now, todo(connection, run), rows)


def todo(connection: sa.Connection, run: RunId) -> tuple[tuple[int, Effect], ...]:
    """Return what is ordered and not known to be done."""
    query = sa.select(_EFFECTS.c.seq, _EFFECTS.c.body).where(_EFFECTS.c.run == run).order_by(_EFFECTS.c.seq)
    return tuple((row.seq, decode_effect(row.body)) for row in connection.execute(query))


def active(connection: sa.Connection) -> tuple[RunId, ...]:
    """Return the runs that need a driver: not ended, or ended with something left to do."""
    busy = sa.exists().where(_EFFECTS.c.run == _RUNS.c.id)
    query = sa.select(_RUNS.c.id).where(sa.or_(_RUNS.c.ended_wall.is_(None), busy)).order_by(_RUNS.c.number)
    return tuple(RunId(run) for run in connection.scalars(query))


def prunable(
    connection: sa.Connection, run: RunId, upto: int, keep: Collection[Digest]
) -> tuple[Digest, ...]:
    """Return the run's files up to a round that neither `keep` nor a later round nor another run needs."""
    mine, other = schema.models, schema.models.alias()
    elsewhere = sa.or_(other.c.run != run, other.c.round > upto)
    wanted = sa.exists().where(other.c.sha256 == mine.c.sha256, other.c.deleted_wall.is_(None), elsewhere)
    query = sa.select(mine.c.sha256).distinct().where(*_freed(run, upto, keep), ~wanted)
    return tuple(Digest(digest) for digest in connection.scalars(query.order_by(mine.c.sha256)))


def pruned(connection: sa.Connection, run: RunId, upto: int, keep: Collection[Digest], wall: float) -> None:
    """Note that the run has given up what `prunable` looked at, files that others still need too."""
    freed = schema.models.update().where(*_freed(run, upto, keep))
    connection.execute(freed.values(deleted_wall=wall))


def put_manifest(connection: sa.Connection, sha256: Digest, body: bytes) -> None:
    """Keep a manifest; the same one twice is fine."""
    table = schema.manifests
    if connection.scalar(sa.select(table.c.sha256).where(table.c.sha256 == sha256)) is None:
        model_bytes = Manifest.decode(body).file_bytes
        connection.execute(table.insert().values(sha256=sha256, body=body, model_bytes=model_bytes))


def manifest(connection: sa.Connection, sha256: Digest) -> bytes:
    """Return a manifest's bytes."""
    table = schema.manifests
    body: bytes | None = connection.scalar(sa.select(table.c.body).where(table.c.sha256 == sha256))
    if body is None:
        raise NotFound(f"there is no manifest with digest {sha256}")
    return body


def _freed(run: RunId, upto: int, keep: Collection[Digest]) -> tuple[sa.ColumnElement[bool], ...]:
    c = schema.models.c
    return (c.run == run, c.round <= upto, c.deleted_wall.is_(None), c.sha256.not_in(tuple(keep)))


def _strike_off(connection: sa.Connection, run: RunId, done: tuple[int, ...]) -> None:
    if done:
        connection.execute(_STRIKE_OFF, [{"run_key": run, "seq_key": number} for number in done])


def _update(connection: sa.Connection, run: RunId, change: Change, next_effect: int) -> None:
    values = _state(change.run) | {"machine_now": change.now, "updated_wall": change.wall}
    values |= {"run_key": run, "next_effect": next_effect, "updated_by": "save"}
    if isinstance(change.run.stage, Ended):
        connection.execute(_END, values | {"wall": change.wall})
    else:
        connection.execute(_GO_ON, values)


def _state(run: Run) -> dict[str, object]:
    """Return the encoded run, and the columns that repeat parts of it for queries."""
    match run.stage:
        case Waiting():
            state, reason = "waiting", ""
        case Ended(state, reason):
            pass
        case _:
            state, reason = "running", ""
    summary = {"state": state, "reason": reason, "round": run.round, "manifest": run.manifest}
    return summary | {"machine": encode(run), "model_sha256": run.model or ""}


def _tell(connection: sa.Connection, run: RunId, wall: float, occurrences: tuple[Event | Fact, ...]) -> None:
    entries = (audit.entry_of(run, occurrence) for occurrence in occurrences)
    audit.append(connection, wall, *(entry for entry in entries if entry is not None))
