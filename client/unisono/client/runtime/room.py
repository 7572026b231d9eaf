"""A disk without room: the one trouble of a site's own that passes without a person's help in the program.

Somebody deletes a file and all goes on where it stood, so a client waits and says so; it does not end, and
nobody's round fails for it.  What was being written was not written (the vault's transactions are whole or
not at all, files get their names last), so whatever was being done may be done again.
"""

import errno
import os
import sqlite3
from pathlib import Path

from .trainer_process import TaskFailure

SECONDS = 5.0  # between two looks
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SCARCE = 1 << 16  # bytes: with fewer, what SQLite calls an I/O error is a lack of room, too
_MAYBE = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


def is_full(error: Exception, folder: Path) -> bool:
    """Tell whether `error` means that nothing more can be written to `folder`."""
    match error:
        case TaskFailure():
            ended = error.failure == "task_error"  # a process that could not even write why it ended
            return error.failure == "disk_full" or (ended and _free(folder) < _SCARCE)
        case sqlite3.Error():
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            return code == sqlite3.SQLITE_FULL or (code in _MAYBE and _free(folder) < _SCARCE)
        case OSError():
            return error.errno in _FULL
    return False


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
