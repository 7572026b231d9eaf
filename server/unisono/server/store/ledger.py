"""The ledger of secure aggregation: what was accepted and decided in the attempts of a round, row by row.

Written in the transaction that saves the step it belongs to, so both are there or neither; deleted when the
round is published or the run has ended.  Rows are encrypted: in the last leg they hold shares.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from unisono.base.errors import Fault
from unisono.base.ids import RunId
from unisono.crypto import HEADER, AtRest, encode, system_entropy
from unisono.server.rounds import Fact, RoundPublished, Row, RunEnded

from . import schema

_TABLE = schema.ledger


class Ledger:
    """Seals rows on their way in and opens them on their way out."""

    def __init__(self, at_rest: AtRest | None) -> None:
        """Without a key there is no ledger: a command that only looks at the rest needs none."""
        self._at_rest = at_rest

    def append(self, connection: sa.Connection, run: RunId, rows: Iterable[Row]) -> None:
        """Write rows after those that are there."""
        values = [
            {"run": run, "round": row.round, "attempt": row.attempt, "body": self._sealed(run, row)}
            for row in rows
        ]
        if values:
            connection.execute(_TABLE.insert(), values)

    def read(self, connection: sa.Connection, run: RunId, round_: int) -> tuple[Row, ...]:
        """Return the rows of a round in their order.  Raises Corrupt."""
        where = (_TABLE.c.run == run, _TABLE.c.round == round_)
        found = connection.execute(sa.select(_TABLE).where(*where).order_by(_TABLE.c.seq))
        return tuple(Row(row.round, row.attempt, self._opened(run, row)) for row in found)

    @staticmethod
    def forget(connection: sa.Connection, run: RunId, facts: Iterable[Fact]) -> None:
        """Delete what a published round, or the end of the run, leaves of no use."""
        for fact in facts:
            match fact:
                case RoundPublished(round=round_):
                    connection.execute(_TABLE.delete().where(_TABLE.c.run == run, _TABLE.c.round <= round_))
                case RunEnded():
                    connection.execute(_TABLE.delete().where(_TABLE.c.run == run))

    def _sealed(self, run: RunId, row: Row) -> bytes:
        header, sealer = self._key().new(system_entropy, _context(run, row.round, row.attempt))
        return header + sealer.seal(row.body, last=True)

    def _opened(self, run: RunId, row: sa.Row[tuple[int, int, bytes]]) -> bytes:
        context = _context(run, row.round, row.attempt)
        opener = self._key().opener(row.body[:HEADER], context)
        return bytes(opener.open(0, row.body[HEADER:], last=True))

    def _key(self) -> AtRest:
        if self._at_rest is None:
            raise Fault("the store was opened without the key of its ledger")
        return self._at_rest


def _context(run: RunId, round_: int, attempt: int) -> bytes:
    return encode("ledger", run, round_, attempt)
