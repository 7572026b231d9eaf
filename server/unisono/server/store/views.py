"""What people and scripts read: the documents of design section 8, as plain JSON values."""

import json
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from unisono.base.errors import NotFound
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.rounds import decode
from unisono.tensors import Manifest

from . import audit, schema

Document = dict[str, JsonValue]
_RUNS, _ROUNDS, _MODELS = schema.runs, schema.rounds, schema.models


def show(connection: sa.Connection, run: RunId) -> Document:
    """Return the document of `run show ID --json`.  No protection hides who took part: clients are named."""
    row = _run(connection, run)
    plan = json.loads(row.plan)
    rounds = connection.execute(
        sa.select(_ROUNDS)
        .where(_ROUNDS.c.run == run, _ROUNDS.c.published_wall.is_not(None))
        .order_by(_ROUNDS.c.round)
    )
    return {
        "id": row.id,
        "state": row.state,
        "reason": row.reason,
        "plan_sha256": row.plan_sha256,
        "protection": plan["protection"]["mode"],
        "rounds": [_round(round_) for round_ in rounds],
        "privacy": {},
        "model_sha256": row.model_sha256,
        "task": row.task,
        "started": row.created_wall,
        "updated": row.updated_wall,
        "ended": row.ended_wall,
        "round_count": plan["rounds"]["count"],
    }


def runs(connection: sa.Connection) -> list[Document]:
    """Return a summary of each run, the newest first."""
    return [_summary(row) for row in connection.execute(sa.select(_RUNS).order_by(_RUNS.c.number.desc()))]


def latest(connection: sa.Connection) -> RunId:
    """Return the newest run."""
    found = connection.scalar(sa.select(_RUNS.c.id).order_by(_RUNS.c.number.desc()).limit(1))
    if found is None:
        raise NotFound("there is no run yet; start one with: unisono run start PLAN")
    return RunId(found)


def models(connection: sa.Connection, run: RunId) -> Document:
    """Return the document of `model list`: the models that exist, by the round that made them."""
    found = _run(connection, run)
    machine = decode(found.machine)
    table = schema.manifests
    size = connection.scalar(sa.select(table.c.model_bytes).where(table.c.sha256 == found.manifest))
    best = machine.best[0] if machine.best is not None else None
    mine = sa.and_(_ROUNDS.c.run == _MODELS.c.run, _ROUNDS.c.round == _MODELS.c.round)
    rows = connection.execute(
        sa.select(_MODELS, _ROUNDS.c.metrics)
        .join_from(_MODELS, _ROUNDS, mine, isouter=True)
        .where(_MODELS.c.run == run, _MODELS.c.vector == "", _MODELS.c.deleted_wall.is_(None))
        .order_by(_MODELS.c.round)
    )
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
    return about | {"models": listed}


def events(connection: sa.Connection, run: RunId, since: int, limit: int) -> list[Document]:
    """Return what happened to a run after line `since` of the audit log, at most the last `limit` things."""
    return [
        json.loads(line.entry.body)
        | {"seq": line.seq, "wall": line.wall, "event": line.entry.kind, "client": line.entry.subject}
        for line in audit.latest(connection, limit, run, since)
    ]


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


def owners(connection: sa.Connection, digest: Digest) -> tuple[RunId, ...]:
    """Return the runs that have a model with this digest."""
    query = sa.select(_MODELS.c.run).distinct().where(*_holds(digest)).order_by(_MODELS.c.run)
    return tuple(RunId(run) for run in connection.scalars(query))


def rosters(connection: sa.Connection, digest: Digest) -> tuple[frozenset[ClientName], ...]:
    """Return who took part in the runs that have a model with this digest."""
    query = sa.select(_RUNS.c.machine).where(sa.exists().where(_MODELS.c.run == _RUNS.c.id, *_holds(digest)))
    return tuple(frozenset(decode(machine).roster) for machine in connection.scalars(query))


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
    }
