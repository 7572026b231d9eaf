"""What events and facts become in tables that people read: rounds, models, updates.

Statements are built once: building one costs SQLAlchemy more time than SQLite needs to carry it out, and
every update of every client comes by here.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from unisono.base.ids import Digest, RunId
from unisono.secagg.shared.messages import Upload
from unisono.server.rounds import (
    Aggregated,
    AttemptFailed,
    Event,
    Fact,
    MetricsKnown,
    ModelKept,
    RoundPublished,
    Said,
    Uploaded,
)

from . import schema
from .canonical import canonical

_ROUNDS, _MODELS, _UPDATES = schema.rounds, schema.models, schema.updates


def _key(*columns: sa.Column[Any]) -> tuple[sa.ColumnElement[bool], ...]:
    """Return a condition whose values are parameters named like the columns, with `_key` behind."""
    return tuple(column == sa.bindparam(f"{column.name}_key") for column in columns)


_R, _M, _U = _ROUNDS.c, _MODELS.c, _UPDATES.c
_ROUND = _key(_R.run, _R.round)
_CHANGE_ROUND = _ROUNDS.update().where(*_ROUND)  # the columns that parameters name
_ADD_TRAFFIC = _CHANGE_ROUND.values(
    bytes_in=_R.bytes_in + sa.bindparam("received"), bytes_out=_R.bytes_out + sa.bindparam("sent")
)
_MAKE_ROUND = _ROUNDS.insert()
_FAILURES = sa.select(_R.failures).where(*_ROUND)
_DROP_MODEL = _MODELS.delete().where(*_key(_M.run, _M.round, _M.vector))
_MAKE_MODEL = _MODELS.insert()
_UPDATE = (_U.run, _U.round, _U.attempt, _U.client)
_NEW_UPDATE = (*_UPDATE, _U.sha256, _U.bytes, _U.received_wall)
_MAKE_UPDATE = _UPDATES.insert().from_select(  # unless it is there: in words that every database understands
    [column.name for column in _NEW_UPDATE],
    sa.select(*(sa.bindparam(f"{c.name}_new", type_=c.type) for c in _NEW_UPDATE)).where(
        ~sa.exists().where(*(column == sa.bindparam(f"{column.name}_new") for column in _UPDATE))
    ),
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Writes rows of one run in one transaction."""

    connection: sa.Connection
    run: RunId
    wall: float

    def fact(self, fact: Fact) -> None:
        """Write what a fact tells; some only stand in the run itself and in the audit log."""
        match fact:
            case ModelKept(round_, model):
                self._model(round_, "", model)
            case AttemptFailed(round_, attempt, reason):
                self._failed(round_, attempt, reason)
            case RoundPublished():
                self._published(fact)
            case MetricsKnown(round_, metrics):
                self._round(round_, _CHANGE_ROUND, metrics=canonical(dict(metrics)))
            case _:
                pass

    def event(self, event: Event) -> None:
        """Write what an event brought: an update, or new vectors of the strategy's state."""
        match event:
            case Uploaded():
                self._update(event)
            case Said(message=Upload()):
                self._update(event)
            case Aggregated():
                for name, digest in event.state:
                    self._model(event.round, name, digest)
            case _:
                pass

    def traffic(self, round_: int, received: int, sent: int) -> None:
        """Add to a round's bytes."""
        self._round(round_, _ADD_TRAFFIC, received=received, sent=sent)

    def _published(self, fact: RoundPublished) -> None:
        self._round(
            fact.round,
            _CHANGE_ROUND,
            attempts=fact.attempts,
            cohort=canonical(fact.cohort),
            survivors=canonical(fact.survivors),
            reasons=canonical(fact.reasons),
            seconds=fact.seconds,
            model_sha256=fact.model,
            published_wall=self.wall,
        )

    def _failed(self, round_: int, attempt: int, reason: str) -> None:
        """Append to the list in the database, which is the canonical JSON of [attempt, reason] pairs."""
        key = {"run_key": self.run, "round_key": round_}
        old = self.connection.scalar(_FAILURES, key) or "[]"
        new = f"{old[:-1]}{',' if old != '[]' else ''}{canonical((attempt, reason))}]"
        self._round(round_, _CHANGE_ROUND, failures=new)

    def _round(self, round_: int, change: sa.Update, **values: object) -> None:
        """Update a round's row; make it first if it is not there."""
        key = {"run_key": self.run, "round_key": round_}
        if not self.connection.execute(change, key | values).rowcount:
            self.connection.execute(_MAKE_ROUND, {"run": self.run, "round": round_})
            self.connection.execute(change, key | values)

    def _model(self, round_: int, vector: str, digest: Digest) -> None:
        key = {"run_key": self.run, "round_key": round_, "vector_key": vector}
        self.connection.execute(_DROP_MODEL, key)
        new = {"run": self.run, "round": round_, "vector": vector}
        self.connection.execute(_MAKE_MODEL, new | {"sha256": digest, "created_wall": self.wall})

    def _update(self, event: Uploaded | Said) -> None:
        """Write an update's row.  A repeat after a lost reply finds it there."""
        new = (self.run, event.round, event.attempt, event.client, event.digest, event.bytes, self.wall)
        names = (f"{column.name}_new" for column in _NEW_UPDATE)
        self.connection.execute(_MAKE_UPDATE, dict(zip(names, new, strict=True)))
