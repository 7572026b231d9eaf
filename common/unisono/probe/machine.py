"""What is to be known of this machine: space and speed of a disk, open files, versions."""

import os
import platform
import resource
import shutil
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from unisono.base.errors import Error
from unisono.base.units import show_bytes, show_seconds

from .finding import Finding, failure, ok, warning

SAMPLE = 1 << 20  # bytes that are written and synced
SLOW = 0.25  # seconds for them: an upload and each decision wait for such a sync
PARTS = ("grpcio", "protobuf", "cryptography", "numpy")
_NAME = ".doctor"


def machine(folder: Path, least: int, files: int, protocols: tuple[int, int]) -> Iterator[Finding]:
    """Look at all of it, for a process that needs so much room, so many open files, and speaks these."""
    yield disk(folder, least)
    yield open_files(files)
    yield versions(protocols)


def disk(folder: Path, least: int) -> Finding:
    """Write and sync a megabyte in `folder`; `least` bytes should stay free.  The file is removed."""
    free = shutil.disk_usage(folder).free
    try:
        seconds = _synced(folder / f"{_NAME}-{os.getpid()}")
    except OSError as error:
        words = f"{folder}: {show_bytes(SAMPLE)} cannot be written: {error.strerror}; {show_bytes(free)} free"
        return failure("disk", words, _WAY_OUT.get(error.errno or 0, "look at the disk and its mount"), Error)
    words = f"{show_bytes(free)} free, {show_bytes(SAMPLE)} written and synced in {_quick(seconds)}"
    if free < least:
        advice = (
            f"keep {show_bytes(least)} free: remove what is not needed, or move the folder to a larger disk"
        )
        return failure("disk", f"{folder}: only {words}", advice, Error)
    if seconds > SLOW:
        advice = "use a local disk: each message and upload that is acknowledged waits for a sync"
        return warning("disk", f"{folder}: {words}, which is slow", advice)
    return ok("disk", words)


def _quick(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else show_seconds(seconds)


_WAY_OUT: Mapping[int, str] = {
    28: "make room on this disk, or move the folder to a larger one",  # ENOSPC
    122: "the user's quota is used up: make room, or have it raised",  # EDQUOT
    13: "give the user that runs unisono the right to write here",  # EACCES
    30: "the disk is mounted read-only: mount it for writing",  # EROFS
}


def _synced(file: Path) -> float:
    """Return the seconds that SAMPLE bytes take to the disk."""
    data = os.urandom(SAMPLE)  # zeros would be compressed by some file systems
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        began = time.monotonic()
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        return time.monotonic() - began
    finally:
        os.close(descriptor)
        file.unlink()


def open_files(needed: int) -> Finding:
    """Compare the limit of open files with what is needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        most = "no limit" if soft == resource.RLIM_INFINITY else f"at most {soft}"
        return ok("open files", f"{most}, {needed} are enough")
    raised = "" if hard == resource.RLIM_INFINITY or hard >= needed else " (as root)"
    advice = f"ulimit -n {needed}{raised}, or LimitNOFILE={needed} in its systemd unit"
    return warning("open files", f"at most {soft}, {needed} may be needed", advice)


def versions(protocols: tuple[int, int]) -> Finding:
    """Name what is installed."""
    low, high = protocols
    spoken = f"protocol {high}" if low == high else f"protocols {low} to {high}"
    parts = ", ".join(f"{part} {version(part)}" for part in PARTS)
    return ok(
        "versions", f"unisono {version('unisono')}, {spoken}, Python {platform.python_version()}, {parts}"
    )
