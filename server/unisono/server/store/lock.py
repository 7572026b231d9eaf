"""One coordinator for a folder: an advisory lock that the kernel releases however the holder dies."""

import fcntl
import os
from pathlib import Path

from unisono.base.errors import BadConfiguration


class FolderLock:
    """Holds `folder`/lock from creation to `close`.  Raises BadConfiguration if another process holds it."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "of unknown number"
            self.close()
            raise BadConfiguration(
                f"{folder} is in use by another coordinator, process {holder}; stop it or name another --dir"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)  # for the message above only

    def close(self) -> None:
        """Let go.  The file stays: removing it would let two processes lock two files of one name."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
