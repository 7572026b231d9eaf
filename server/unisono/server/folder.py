"""The coordinator's folder: which file is what, made once by `unisono init`, private from the first byte."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unisono.base.errors import BadConfiguration, Error


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths under DIR/coordinator."""

    path: Path

    @classmethod
    def find(cls, directory: Path) -> "Folder":
        """Return DIR/coordinator, or DIR itself if it is one.  Raises BadConfiguration."""
        for path in (directory / "coordinator", directory):
            if (path / "ca.pem").exists() and (path / "sealing.key").exists():
                return cls(path.resolve())
        raise BadConfiguration(
            f"there is no coordinator in {directory}\n  make one first: unisono init {directory} --host HOST"
        )

    @property
    def config(self) -> Path:
        return self.path / "coordinator.toml"

    @property
    def ca_key(self) -> Path:
        return self.path / "ca.key"

    @property
    def ca(self) -> Path:
        return self.path / "ca.pem"

    @property
    def sealing_key(self) -> Path:
        return self.path / "sealing.key"

    @property
    def sealing(self) -> Path:
        return self.path / "sealing.pem"

    @property
    def receipts_key(self) -> Path:
        return self.path / "receipts.key"

    @property
    def receipts(self) -> Path:
        return self.path / "receipts.pem"

    @property
    def at_rest_key(self) -> Path:
        return self.path / "at-rest.key"

    @property
    def database(self) -> Path:
        return self.path / "state.db"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def lock(self) -> Path:
        return self.path / "lock"


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read: whole or not there, and durable on return."""
    part = path.with_name(f"{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path, what: str) -> bytes:
    """Read a key.  Raises BadConfiguration, naming the file, if it is missing or others may read it."""
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode & 0o077
    except OSError as error:
        raise BadConfiguration(f"cannot read {what}: {path}: {error.strerror}") from None
    if mode:
        raise BadConfiguration(f"{what} may be read by others: {path}\n  run: chmod 600 {path}")
    return data


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Name the file in whatever is wrong with what it holds.  Raises BadConfiguration."""
    try:
        yield
    except (Error, ValueError) as error:
        text = str(error) if str(path) in str(error) else f"{what} cannot be used: {path}: {error}"
        advice = "" if "\n" in text else "\n  restore it from a backup of this folder"
        raise BadConfiguration(text + advice) from error
