"""One SQLite file: how it is opened, and the two kinds of transaction.

WAL with synchronous=FULL: a commit that returned is on the disk.  A writer takes its lock at the beginning
(`BEGIN IMMEDIATE`), since one that reads first and writes later may find that it cannot; a reader sees one
moment of the database and waits for nobody.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from unisono.base.errors import Error, Fault, Unavailable

_PRAGMAS = (
    "busy_timeout = 10000",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cache_size = -1024",  # KiB a connection: rows are small, memory is promised away
)
_WRITES = "unisono_writes"
_MAYBE_FULL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})  # said where there is no room, too
_SCARCE = 1 << 16  # bytes
THOROUGH = 64 << 20  # bytes: some tenths of a second


class Database:
    """Connections to the file, shared by all threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Made by us first, for its mode: SQLite's journal files inherit it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), pool_size=4, max_overflow=-1
        )
        sa.event.listen(self._engine, "connect", _connected)
        sa.event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a transaction that changes something: whole or not at all, durable when this returns."""
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a transaction that sees one moment."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    def check(self) -> None:
        """Read the whole file.  Raises Fault if a page is damaged.

        Indices are held against their tables too (integrity_check), unless that would take long.
        """
        thorough = self.path.stat().st_size <= THOROUGH
        with self.read() as connection:
            pragma = "integrity_check(3)" if thorough else "quick_check(3)"
            found = list(connection.exec_driver_sql(f"PRAGMA {pragma}").scalars())
        if found != ["ok"]:
            raise _damaged(self.path, str(found[0]).replace("\n", " ")[:200])

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the file."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise _ours(error, self.path) from error


def _connected(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    del record
    # The driver must not open transactions on its own: `_begin` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _ours(error: sa.exc.DBAPIError, path: Path) -> Error:
    match getattr(error.orig, "sqlite_errorcode", 0) & 0xFF:
        case code if code == sqlite3.SQLITE_FULL or (code in _MAYBE_FULL and _free(path) < _SCARCE):
            return Unavailable(f"disk full: nothing more can be written to {path}", retry_after=10.0)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(f"{path} is busy", retry_after=1.0)
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return _damaged(path, str(error.orig))
        case _:
            return Fault(f"{path}: {error.orig}")


def _free(path: Path) -> int:
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize


def _damaged(path: Path, how: str) -> Fault:
    return Fault(
        f"{path} is damaged or no database: {how}\n"
        "  restore the whole folder from a backup; runs go on from what is in it"
    )
