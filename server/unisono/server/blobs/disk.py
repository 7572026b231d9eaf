"""The few calls that make a file durable, and what their failures mean."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unisono.base.errors import Fault, Unavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Translate what the system says about `path`: a full disk may have room later, the rest is fatal."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable(f"disk full: {path.parent} takes no more bytes", retry_after=10.0) from error
        raise Fault(f"{path}: {error.strerror or error}") from error


def write_at(file: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of `data`; the system may take less at a time."""
    view = memoryview(data)
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def read_at(file: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` from `offset` on; return how much of it was there."""
    done = 0
    while done < len(buffer):
        count = os.preadv(file, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def settle(file: int, part: Path, final: Path) -> None:
    """Give a file written under another name in the same folder its own: durable and whole, or not at all."""
    os.fsync(file)
    os.rename(part, final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def make_folder(folder: Path) -> None:
    """Make a folder that only we may enter, durably; its parent exists or is made as well."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
