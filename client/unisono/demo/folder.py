"""Where a demo puts its files: a folder of its own, replaced by the next demo and by nothing else."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from unisono.base.errors import BadConfiguration
from unisono.base.ids import ClientName

MARKER = ".unisono-demo"


@dataclass(frozen=True, slots=True)
class Folder:
    """DIR/federation for the coordinator and its operator, DIR/hospital-N for a client, DIR/logs.

    `path` is absolute.
    """

    path: Path

    @classmethod
    def fresh(cls, path: Path) -> "Folder":
        """Make the folder; empty it first if an earlier demo made it.  Raises BadConfiguration."""
        if path.is_dir() and (path / MARKER).is_file():
            shutil.rmtree(path)
        elif path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise BadConfiguration(
                f"{path} exists and was not made by a demo\n  give another folder: unisono demo --dir DIR"
            )
        path.mkdir(parents=True, exist_ok=True)
        (path / MARKER).write_text("made by `unisono demo`, which replaces this folder\n", encoding="utf-8")
        folder = cls(path.resolve())
        folder.logs.mkdir()
        return folder

    @property
    def federation(self) -> Path:
        return self.path / "federation"

    @property
    def plan(self) -> Path:
        return self.path / "plan.toml"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def token(self, client: ClientName) -> Path:
        return self.path / f"{client}.token"

    def client(self, client: ClientName) -> Path:
        return self.path / client
