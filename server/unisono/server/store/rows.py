"""What events and facts become in tables that people read: rounds, models, updates."""

from dataclasses import dataclass

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
                self._round(round_, metrics=canonical(dict(metrics)))
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
        c = schema.rounds.c
        self._round(round_, bytes_in=c.bytes_in + received, bytes_out=c.bytes_out + sent)

    def _published(self, fact: RoundPublished) -> None:
        self._round(
            fact.round,
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
        self._round(round_)
        table = schema.rounds
        where = (table.c.run == self.run, table.c.round == round_)
        old = self.connection.scalar(sa.select(table.c.failures).where(*where)) or "[]"
        new = f"{old[:-1]}{',' if old != '[]' else ''}{canonical((attempt, reason))}]"
        self.connection.execute(table.update().where(*where).values(failures=new))

    def _round(self, round_: int, **values: object) -> None:
        """Update a round's row; make it if it is not there."""
        table = schema.rounds
        where = (table.c.run == self.run, table.c.round == round_)
        if self.connection.scalar(sa.select(table.c.round).where(*where)) is None:
            self.connection.execute(table.insert().values(run=self.run, round=round_))
        if values:
            self.connection.execute(table.update().where(*where).values(**values))

    def _model(self, round_: int, vector: str, digest: Digest) -> None:
        table = schema.models
        where = (table.c.run == self.run, table.c.round == round_, table.c.vector == vector)
        self.connection.execute(table.delete().where(*where))
        self.connection.execute(
            table.insert().values(
                run=self.run, round=round_, vector=vector, sha256=digest, created_wall=self.wall
            )
        )

    def _update(self, event: Uploaded | Said) -> None:
        """Write an update's row.  A repeat after a lost reply finds it there."""
        table = schema.updates
        key = {"run": self.run, "round": event.round, "attempt": event.attempt, "client": event.client}
        if self.connection.scalar(sa.select(table.c.sha256).filter_by(**key)) is None:
            self.connection.execute(
                table.insert().values(**key, sha256=event.digest, bytes=event.bytes, received_wall=self.wall)
            )
