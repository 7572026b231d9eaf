"""What SQLite says on a full disk, whichever way it says it, is waited out; with room it is a fault."""

import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from unisono.base.errors import Fault, Unavailable
from unisono.server.store import database


def said(code: int) -> sa.exc.OperationalError:
    found = sqlite3.OperationalError("disk I/O error")
    found.sqlite_errorcode = code
    return sa.exc.OperationalError("INSERT", {}, found)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL])
def test_no_room_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    values = list(os.statvfs(tmp_path))
    values[3] = values[4] = 0  # f_bfree, f_bavail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    found = database._ours(said(code), tmp_path / "state.db")
    assert isinstance(found, Unavailable)
    assert "disk full" in str(found)


def test_an_io_error_with_room_is_a_fault(tmp_path: Path) -> None:
    assert isinstance(database._ours(said(sqlite3.SQLITE_IOERR_READ), tmp_path / "state.db"), Fault)
