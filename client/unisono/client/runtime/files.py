"""Small files that must be whole or absent, readable by their owner only; and the folder's lock."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from unisono.base.errors import BadConfiguration, Error
from unisono.base.ids import Digest
from unisono.crypto import Sha256


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def client_folder(directory: Path) -> Path:
    """Return the client's folder, given it or its parent.  It need not exist."""
    here = directory / "client.toml"
    return directory if here.exists() or directory.name == "client" else directory / "client"


def write_private(path: Path, data: bytes) -> None:
    """Write a whole file, mode 0600, durable on return: part file, fsync, rename, fsync of the folder."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path, advice: str) -> Iterator[None]:
    """Name the file in whatever is wrong with what it holds.  Raises BadConfiguration."""
    try:
        yield
    except (Error, ValueError) as error:
        raise BadConfiguration(f"{path} is damaged: {error}\n  {advice}") from error


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of it to a file without a buffer.  A nearly full disk takes a part and says nothing."""
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def digest_of(path: Path) -> Digest | None:
    """Return the SHA-256 of a file; None if it is not there."""
    state = Sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                state.update(data)
    except FileNotFoundError:
        return None
    return state.hexdigest()


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def swap_pair(folder: Path, stem: str, key: bytes, certificate: bytes) -> None:
    """Replace STEM.key and STEM.pem together, so that a crash at any point leaves a pair that matches.

    Both new files are written before the first rename; the certificate's is written last, so that it is
    there only if both are.  `finish_swap` does what a crash left undone.
    """
    write_private(folder / f"{stem}.key.new", key)
    write_private(folder / f"{stem}.pem.new", certificate)
    finish_swap(folder, stem)


def finish_swap(folder: Path, stem: str) -> None:
    """Complete a swap; called before every read of the pair."""
    key, certificate = folder / f"{stem}.key.new", folder / f"{stem}.pem.new"
    if not certificate.exists():
        return
    if key.exists():
        key.replace(folder / f"{stem}.key")
    certificate.replace(folder / f"{stem}.pem")
    sync_folder(folder)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder for one process.  Raises BadConfiguration naming who holds it."""
    private_folder(folder)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise BadConfiguration(
                f"{folder} is in use by another client (process {holder})\n"
                "  stop that one first, or give this one its own --dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)  # and with it the lock
