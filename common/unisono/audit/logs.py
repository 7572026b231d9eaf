"""An audit log as it lies in a folder: read beside the process that writes it, or without one, and checked.

Nothing is written: a copy of the folder, or a folder of somebody else, may be looked at as well.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unisono.base.errors import BadConfiguration, Corrupt
from unisono.base.ids import Digest

from .chain import START, coordinator_line, site_line

Side = Literal["coordinator", "client"]
_COORDINATOR = "SELECT seq, wall, kind, run, subject, body, previous, hash FROM audit ORDER BY seq"
_SITE = "SELECT number, wall, kind, detail, digest FROM audit ORDER BY number"


@dataclass(frozen=True, slots=True)
class Row:
    """One line, of either side."""

    seq: int
    wall: float
    what: str
    run: str
    client: str
    detail: Mapping[str, object]
    hash: Digest


@dataclass(frozen=True, slots=True)
class Log:
    """The log in a database file."""

    side: Side
    path: Path

    def rows(self) -> Iterator[Row]:
        """Yield all lines, the oldest first.  Raises Corrupt at the first that does not fit."""
        read = _coordinator if self.side == "coordinator" else _site
        try:
            with closing(open_read_only(self.path)) as db:
                yield from read(db)
        except sqlite3.DatabaseError as error:
            raise Corrupt(
                f"{self.path} cannot be read as an audit log: {error}\n"
                "  restore the folder from a backup, and compare the backup's head with one noted elsewhere"
            ) from error

    def verify(self, noted: Digest | None = None) -> tuple[int, Digest, int | None]:
        """Return the number of lines, the head, and which line has the hash `noted` elsewhere, if it was.

        Raises Corrupt naming the first broken line, or that no line has that hash: then lines were cut off
        the end after it was noted, or the whole log was replaced.
        """
        count, head = 0, START
        found = 0 if noted == START else None
        for row in self.rows():
            count, head = row.seq, row.hash
            if head == noted:
                found = count
        if noted is not None and found is None:
            raise Corrupt(
                f"no line of this log has the hash {noted}: its {count} lines fit together, "
                "but the end was cut off, or all of it was replaced\n"
                "  ask for a copy of the log from before, and show it to whoever noted that hash"
            )
        return count, head, found


def find_log(directory: Path) -> Log:
    """Return the log in a coordinator's or a site's folder, or the folder above.  Raises BadConfiguration."""
    here = [
        *(Log("coordinator", path) for path in _databases(directory, "coordinator", "sealing.key")),
        *(Log("client", path) for path in _databases(directory, "client", "client.toml")),
    ]
    if len(here) > 1:
        raise BadConfiguration(
            f"{directory} holds a coordinator and a site\n"
            f"  say which: --dir {directory}/coordinator or --dir {directory}/client"
        )
    if not here:
        raise BadConfiguration(
            f"there is no audit log in {directory}\n"
            "  give the coordinator's folder (made by unisono init) or a site's (unisono join): --dir DIR"
        )
    return here[0]


def _databases(directory: Path, name: str, mark: str) -> Iterator[Path]:
    for folder in (directory / name, directory):
        if (folder / mark).exists() and (folder / "state.db").exists():
            yield folder / "state.db"
            return


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a folder's database read-only; where nothing at all may be written, the file as it lies."""
    uri = path.resolve().as_uri()
    try:
        db = sqlite3.connect(f"{uri}?mode=ro", uri=True)
        db.execute("SELECT 1 FROM audit LIMIT 1").fetchall()
    except sqlite3.OperationalError:
        if path.with_name("state.db-wal").exists():
            raise
        db = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
    return db


def _coordinator(db: sqlite3.Connection) -> Iterator[Row]:
    before = START
    for expected, row in enumerate(db.execute(_COORDINATOR), start=1):
        seq, wall, kind, run, subject, body, previous, found = row
        _check_number(expected, seq)
        _check_types(seq, wall, kind, run, subject, body, previous, found)
        if found != coordinator_line(Digest(previous), seq, wall, (kind, run, subject, body)):
            raise Corrupt(_changed(seq, kind))
        if previous != before:
            raise Corrupt(_moved(seq, kind))
        before = Digest(found)
        yield Row(seq, wall, kind, run, subject, _detail(body, seq), before)


def _site(db: sqlite3.Connection) -> Iterator[Row]:
    before = START
    for expected, row in enumerate(db.execute(_SITE), start=1):
        number, wall, kind, detail, found = row
        _check_number(expected, number)
        _check_types(number, wall, kind, detail, found)
        if found != site_line(before, number, wall, kind, detail):
            raise Corrupt(_changed(number, kind))
        before = Digest(found)
        said = dict(_detail(detail, number))
        yield Row(number, wall, kind, str(said.pop("run", "")), "", said, before)


def _check_number(expected: int, found: int) -> None:
    if found != expected:
        raise Corrupt(
            f"audit line {expected} is missing: line {expected - 1} is followed by line {found}" + _ADVICE
        )


def _check_types(number: int, wall: object, *texts: object) -> None:
    """Raise Corrupt unless values have the types that they were written with.

    The same bytes as a BLOB have the same hash, and are equal to no name that somebody looks for.
    """
    if not isinstance(wall, float) or not all(isinstance(text, str) for text in texts):
        raise Corrupt(f"audit line {number} was changed: it holds values of other types{_ADVICE}")


def _detail(text: str, number: int) -> Mapping[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Corrupt(f"audit line {number} holds no JSON object" + _ADVICE)
    return found


def _changed(number: int, kind: str) -> str:
    return f"audit line {number} ({kind}) was changed, or stands in another's place{_ADVICE}"


def _moved(number: int, kind: str) -> str:
    return f"audit line {number} ({kind}) does not follow line {number - 1}: lines were exchanged{_ADVICE}"


_ADVICE = (
    "\n  all lines before it are whole; keep a copy of the folder, and compare with a backup or a head noted"
)
