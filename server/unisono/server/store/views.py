"""What people and scripts read: the documents of design section 8, as plain JSON values.

They fit into one message (gRPC's are 4 MiB) however long a run gets: of rounds and events there is what fits
into a share of it, and `rounds_published` says how many rounds there are.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from unisono.base.errors import NotFound
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.rounds import Run, decode
from unisono.tensors import Manifest

from . import audit, schema
from .fitting import fitting

Document = dict[str, JsonValue]
_RUNS, _ROUNDS, _MODELS = schema.runs, schema.rounds, schema.models
SHARE = 1 << 20  # bytes of a document that its rounds may fill; its events half of that
_ROUND = 300  # bytes of a round beside its lists, and of a model
_EVENT = 100  # bytes of what happened, beside its body
_RUN = 500  # bytes of a run in the list of runs
_BRIEF: tuple[sa.Column[Any], ...] = (  # of a run, for the list: not its machine, which may be large
    *(_RUNS.c.id, _RUNS.c.state, _RUNS.c.reason, _RUNS.c.task, _RUNS.c.plan, _RUNS.c.round),
    *(_RUNS.c.created_wall, _RUNS.c.updated_wall, _RUNS.c.ended_wall, _RUNS.c.started_by),
    *(_RUNS.c.plan_sha256, _RUNS.c.model_sha256),
)
_FEW = 5  # reasons in a brief round


@dataclass(frozen=True, slots=True)
class Window:
    """Which rounds of a run: from `first` on (0: the last ones) up to `last` (0: the last), as fit."""

    first: int = 0
    last: int = 0
    most_bytes: int = SHARE


LATEST = Window()


def show(connection: sa.Connection, run: RunId, window: Window) -> Document:
    """Return the document of `run show ID --json`.  No protection hides who took part: clients are named."""
    row = _run(connection, run)
    plan = json.loads(row.plan)
    published = (_ROUNDS.c.run == run, _ROUNDS.c.published_wall.is_not(None))
    total = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_ROUNDS.c.seconds), 0.0))
    count, seconds = connection.execute(total.where(*published)).one()
    return {
        "id": row.id,
        "state": row.state,
        "reason": row.reason,
        "plan_sha256": row.plan_sha256,
        "protection": plan["protection"]["mode"],
        "rounds": _rounds(connection, published, window),
        "rounds_published": count,
        "rounds_seconds": seconds,
        "privacy": {},
        "model_sha256": row.model_sha256,
        "task": row.task,
        "started": row.created_wall,
        "updated": row.updated_wall,
        "ended": row.ended_wall,
        "round_count": plan["rounds"]["count"],
    }


def _rounds(
    connection: sa.Connection, published: Iterable[sa.ColumnElement[bool]], window: Window
) -> list[JsonValue]:
    c = _ROUNDS.c
    query = sa.select(_ROUNDS).where(*published)
    if window.last:
        query = query.where(c.round <= window.last)
    if window.first:
        query = query.where(c.round >= window.first)
    with connection.execute(query.order_by(c.round if window.first else c.round.desc())) as rows:
        found: list[JsonValue] = [_round(row) for row in fitting(rows, _round_size, window.most_bytes)]
    return found if window.first else found[::-1]


def _round_size(row: sa.Row[Any]) -> int:
    lists = len(row.cohort) + len(row.survivors) + len(row.reasons) + len(row.failures)
    return _ROUND + len(row.metrics) + lists


def runs(connection: sa.Connection, before: int = 0) -> Document:
    """Return summaries of runs, the newest first, of those before number `before` (0: all) as many as fit."""
    query = sa.select(*_BRIEF).order_by(_RUNS.c.number.desc())
    if before:
        query = query.where(_RUNS.c.number < before)
    with connection.execute(query) as rows:
        fit = fitting(rows, lambda row: _RUN + len(row.reason) + len(row.task), SHARE)
        found: list[JsonValue] = [_summary(row) for row in fit]
    total = connection.scalar(sa.select(sa.func.count()).select_from(_RUNS)) or 0
    return {"runs": found, "runs_total": total}


def latest(connection: sa.Connection) -> RunId:
    """Return the newest run."""
    found = connection.scalar(sa.select(_RUNS.c.id).order_by(_RUNS.c.number.desc()).limit(1))
    if found is None:
        raise NotFound("there is no run yet; start one with: unisono run start PLAN")
    return RunId(found)


def models(connection: sa.Connection, run: RunId, before: int = 0) -> Document:
    """Return the document of `model list`: the last models that exist (before a round), by round, as fit."""
    found = _run(connection, run)
    machine = decode(found.machine)
    table = schema.manifests
    size = connection.scalar(sa.select(table.c.model_bytes).where(table.c.sha256 == found.manifest))
    best = machine.best[0] if machine.best is not None else None
    mine = sa.and_(_ROUNDS.c.run == _MODELS.c.run, _ROUNDS.c.round == _MODELS.c.round)
    kept = (_MODELS.c.run == run, _MODELS.c.vector == "", _MODELS.c.deleted_wall.is_(None))
    total = connection.scalar(sa.select(sa.func.count()).select_from(_MODELS).where(*kept)) or 0
    query = sa.select(_MODELS, _ROUNDS.c.metrics).join_from(_MODELS, _ROUNDS, mine, isouter=True).where(*kept)
    rows = _models(connection, query, before)
    listed: list[JsonValue] = [
        {
            "round": row.round,
            "sha256": row.sha256,
            "bytes": size,
            "best": row.round == best,
            "last": row.round == machine.round,
            "metrics": json.loads(row.metrics or "{}"),
        }
        for row in rows
    ]
    about = {"run": run, "clients": len(machine.roster), "plan_sha256": found.plan_sha256, "task": found.task}
    return about | {"models": listed, "models_total": total}


def _models(connection: sa.Connection, query: sa.Select[Any], before: int) -> list[sa.Row[Any]]:
    """Return the last rows of models that fit, by round."""
    if before:
        query = query.where(_MODELS.c.round < before)
    with connection.execute(query.order_by(_MODELS.c.round.desc())) as rows:
        return list(fitting(rows, lambda row: _ROUND + len(row.metrics or ""), SHARE))[::-1]


def events(connection: sa.Connection, run: RunId, since: int, limit: int) -> list[Document]:
    """Return what happened to a run after line `since` of the audit log: at most the last `limit` things."""
    lines = reversed(audit.latest(connection, limit, run, since))
    fit = fitting(lines, lambda line: len(line.entry.body) + _EVENT, SHARE // 2)
    return [_event(line) for line in fit][::-1]


def _event(line: audit.Line) -> Document:
    about = {"seq": line.seq, "wall": line.wall, "event": line.entry.kind, "client": line.entry.subject}
    return dict(json.loads(line.entry.body) | about)


def brief_rounds(connection: sa.Connection, run: RunId) -> Document:
    """Return all published rounds of a run, short: how many took part, not who, and the first few reasons."""
    found = _run(connection, run)
    c = _ROUNDS.c
    counts = (sa.func.json_array_length(each).label(f"{each.name}_count") for each in (c.cohort, c.survivors))
    query = sa.select(*(column for column in c if column.name not in {"cohort", "survivors"}), *counts)
    rows = connection.execute(query.where(c.run == run, c.published_wall.is_not(None)).order_by(c.round))
    return {"id": found.id, "rounds": [_brief(row) for row in rows]}


def _brief(row: sa.Row[Any]) -> JsonValue:
    reasons, failures = json.loads(row.reasons), json.loads(row.failures)
    return {
        "round": row.round,
        "attempts": row.attempts,
        "cohort": row.cohort_count,
        "survivors": row.survivors_count,
        "seconds": row.seconds,
        "metrics": json.loads(row.metrics),
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "model_sha256": row.model_sha256,
        "published": row.published_wall,
        "reasons": reasons[:_FEW],
        "reasons_count": len(reasons),
        "failures": failures[-_FEW:],
    }


def releases(connection: sa.Connection, run: RunId) -> Document:
    """Return what of a run was opened and signed for: each published round, and the closing evaluation."""
    found, c, u = _run(connection, run), schema.published.c, schema.updates.c
    same = sa.and_(u.run == c.run, u.round == c.round, u.attempt == c.attempt)
    size = sa.select(sa.func.coalesce(sa.func.sum(u.bytes), 0)).where(same).scalar_subquery()
    count = sa.func.json_array_length(c.survivors)
    query = sa.select(schema.published, count.label("sites"), size.label("bytes"))
    rows = connection.execute(query.where(c.run == run).order_by(c.round))
    return {"id": found.id, "releases": [_release(row) for row in rows]}


def _release(row: sa.Row[Any]) -> JsonValue:
    return {
        "round": row.round,
        "what": row.what,
        "attempt": row.attempt,
        "sites": row.sites,
        "bytes": row.bytes,
        "wall": row.wall,
        "root": row.root,
        "model_sha256": row.model_sha256,
        "audit_sha256": row.audit_sha256,
    }


def participation(connection: sa.Connection) -> Document:
    """Return what each client did so far: updates that arrived, their bytes, rounds it did not count in."""
    u = schema.updates.c
    arrived = sa.select(u.client, sa.func.count(), sa.func.sum(u.bytes), sa.func.max(u.received_wall))
    found: dict[str, dict[str, JsonValue]] = {
        client: {"updates": count, "bytes": size, "last_update": wall, "dropouts": 0}
        for client, count, size, wall in connection.execute(arrived.group_by(u.client))
    }
    missing: Counter[str] = Counter()
    for (reasons,) in connection.execute(sa.select(_ROUNDS.c.reasons).where(_ROUNDS.c.reasons != "[]")):
        missing.update(client for client, _ in json.loads(reasons))
    nothing: dict[str, JsonValue] = {"updates": 0, "bytes": 0, "last_update": None}
    for client, count in missing.items():
        found[client] = found.get(client, nothing) | {"dropouts": count}
    return {"clients": dict(found)}


def sizes_of_task(connection: sa.Connection, task: str) -> Document:
    """Return how large the models of the latest run of a task are; nulls if there was none."""
    table = schema.manifests
    query = (
        sa.select(table.c.body).join(_RUNS, _RUNS.c.manifest == table.c.sha256).where(_RUNS.c.task == task)
    )
    body = connection.scalar(query.order_by(_RUNS.c.number.desc()).limit(1))
    if body is None:
        return {"model_bytes": None, "coordinates": None}
    manifest = Manifest.decode(body)
    return {"model_bytes": manifest.file_bytes, "coordinates": manifest.length}


def is_over(connection: sa.Connection, run: RunId, round_: int) -> bool:
    """Tell whether a round can no longer be published; of a run that is not known, yes."""
    row = connection.execute(sa.select(_RUNS.c.round, _RUNS.c.ended_wall).where(_RUNS.c.id == run)).first()
    return row is None or row.ended_wall is not None or row.round >= round_


def owners(connection: sa.Connection, digest: Digest) -> tuple[RunId, ...]:
    """Return the runs that have a model with this digest."""
    query = sa.select(_MODELS.c.run).distinct().where(*_holds(digest)).order_by(_MODELS.c.run)
    return tuple(RunId(run) for run in connection.scalars(query))


def rosters(connection: sa.Connection, digest: Digest) -> tuple[frozenset[ClientName], ...]:
    """Return who took part in the runs that have a model with this digest."""
    query = sa.select(_RUNS.c.machine).where(sa.exists().where(_MODELS.c.run == _RUNS.c.id, *_holds(digest)))
    return tuple(frozenset(decode(machine).roster) for machine in connection.scalars(query))


def ended(connection: sa.Connection, limit: int) -> tuple[tuple[RunId, Run], ...]:
    """Return the runs that ended last, the newest first."""
    query = sa.select(_RUNS.c.id, _RUNS.c.machine).where(_RUNS.c.ended_wall.is_not(None))
    rows = connection.execute(query.order_by(_RUNS.c.ended_wall.desc(), _RUNS.c.number.desc()).limit(limit))
    return tuple((RunId(row.id), decode(row.machine)) for row in rows)


def _holds(digest: Digest) -> tuple[sa.ColumnElement[bool], ...]:
    return (_MODELS.c.sha256 == digest, _MODELS.c.vector == "", _MODELS.c.deleted_wall.is_(None))


def owned(connection: sa.Connection) -> frozenset[Digest]:
    """Return the digests of all files, models and vectors, that some run still needs."""
    query = sa.select(_MODELS.c.sha256).distinct().where(_MODELS.c.deleted_wall.is_(None))
    return frozenset(Digest(digest) for digest in connection.scalars(query))


def _run(connection: sa.Connection, run: RunId) -> sa.Row[Any]:
    row = connection.execute(sa.select(_RUNS).where(_RUNS.c.id == run)).first()
    if row is None:
        raise NotFound(f"there is no run {run}; list them with: unisono run list")
    return row


def _summary(row: sa.Row[Any]) -> Document:
    plan = json.loads(row.plan)
    return {
        "id": row.id,
        "state": row.state,
        "reason": row.reason,
        "task": row.task,
        "protection": plan["protection"]["mode"],
        "round": row.round,
        "rounds": plan["rounds"]["count"],
        "started": row.created_wall,
        "updated": row.updated_wall,
        "ended": row.ended_wall,
        "by": row.started_by,
        "plan_sha256": row.plan_sha256,
        "model_sha256": row.model_sha256,
    }


def _round(row: sa.Row[Any]) -> Document:
    return {
        "round": row.round,
        "attempts": row.attempts,
        "cohort": json.loads(row.cohort),
        "survivors": json.loads(row.survivors),
        "seconds": row.seconds,
        "metrics": json.loads(row.metrics),
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "model_sha256": row.model_sha256,
        "reasons": json.loads(row.reasons),
        "failures": json.loads(row.failures),
    }
