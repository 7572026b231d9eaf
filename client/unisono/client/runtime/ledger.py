"""The site's audit log: what it agreed to and what left it, each line chained to the last by SHA-256.

Lines are appended in the transaction of what they tell, so that neither exists without the other.  Whoever
changes or drops a line has to rewrite all after it; a head that was read out on the phone shows that.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unisono.audit.chain import START, site_line
from unisono.base.errors import Corrupt
from unisono.base.ids import Digest

SCHEMA = """
CREATE TABLE audit (
    number INTEGER PRIMARY KEY, wall REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One entry; `digest` covers it and all before."""

    number: int
    wall: float
    kind: str
    detail: Mapping[str, str | int]
    digest: Digest


def append(db: sqlite3.Connection, wall: float, kind: str, detail: Mapping[str, str | int]) -> None:
    """Add a line.  The caller's transaction is open."""
    last = db.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    number, before = (last[0] + 1, Digest(last[1])) if last else (1, START)
    text = json.dumps(detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = site_line(before, number, wall, kind, text)
    db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", (number, wall, kind, text, digest))


def lines(db: sqlite3.Connection) -> Iterator[Line]:
    """Yield all lines in order.  Raises Corrupt at the first that is not what was written."""
    before = START
    for expected, row in enumerate(db.execute("SELECT * FROM audit ORDER BY number"), start=1):
        number, wall, kind, text, digest = row
        if number != expected or digest != site_line(before, number, wall, kind, text):
            raise Corrupt(f"line {expected} of this site's audit log was changed or removed")
        before = digest
        yield Line(number, wall, kind, json.loads(text), digest)
