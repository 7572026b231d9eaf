"""What is signed of a published round: written with it, in its transaction, so no crash parts the two.

The signature itself is not kept: Ed25519 gives the same one again.
"""

import json
from dataclasses import dataclass

import sqlalchemy as sa

from unisono.audit import What, tree_of
from unisono.base.errors import Fault
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.rounds import Evaluated, Fact, RoundPublished

from . import audit, schema
from .canonical import canonical

_PUBLISHED, _UPDATES = schema.published, schema.updates
_ADD = _PUBLISHED.insert()
_FIND = sa.select(_PUBLISHED).where(
    _PUBLISHED.c.run == sa.bindparam("run_key"), _PUBLISHED.c.round == sa.bindparam("round_key")
)
_SENT = sa.select(_UPDATES.c.client, _UPDATES.c.sha256).where(
    _UPDATES.c.run == sa.bindparam("run_key"),
    _UPDATES.c.round == sa.bindparam("round_key"),
    _UPDATES.c.attempt == sa.bindparam("attempt_key"),
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A round that is published: which updates count in it, and what became of them."""

    run: RunId
    round: int
    attempt: int
    what: What
    updates: tuple[tuple[ClientName, Digest], ...]  # by name
    root: Digest
    model: Digest
    audit: Digest
    wall: float


def record(connection: sa.Connection, run: RunId, wall: float, facts: tuple[Fact, ...]) -> None:
    """Write a row for each round that the facts publish; their audit lines are written before."""
    for fact in facts:
        match fact:
            case RoundPublished():
                _record(connection, run, wall, fact, "train")
            case Evaluated():
                _record(connection, run, wall, fact, "evaluate")
            case _:
                pass


def _record(
    connection: sa.Connection, run: RunId, wall: float, fact: RoundPublished | Evaluated, what: What
) -> None:
    updates = _updates(connection, run, fact.round, fact.attempts, frozenset(fact.survivors))
    row = {"run": run, "round": fact.round, "attempt": fact.attempts, "what": what, "wall": wall}
    row |= {"survivors": canonical(sorted(fact.survivors)), "root": tree_of(updates).root.hex()}
    row |= {"model_sha256": fact.model, "audit_sha256": audit.head(connection)[1]}
    connection.execute(_ADD, row)


def find(connection: sa.Connection, run: RunId, round_: int) -> Sheet | None:
    """Return what was signed of a round; None if it is not published, or was before this was written."""
    row = connection.execute(_FIND, {"run_key": run, "round_key": round_}).first()
    if row is None:
        return None
    counted = frozenset(ClientName(name) for name in json.loads(row.survivors))
    updates = _updates(connection, run, round_, row.attempt, counted)
    root = tree_of(updates).root.hex()
    if root != row.root:
        raise Fault(f"the updates of round {round_} of {run} are not those that were signed for")
    kept = (Digest(row.root), Digest(row.model_sha256), Digest(row.audit_sha256))
    return Sheet(run, round_, row.attempt, row.what, updates, *kept, row.wall)


def _updates(
    connection: sa.Connection, run: RunId, round_: int, attempt: int, counted: frozenset[ClientName]
) -> tuple[tuple[ClientName, Digest], ...]:
    key = {"run_key": run, "round_key": round_, "attempt_key": attempt}
    rows = connection.execute(_SENT, key)
    return tuple(sorted((row.client, row.sha256) for row in rows if row.client in counted))
