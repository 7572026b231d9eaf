"""A disk that is full when we say so: a small tmpfs over a folder, and a file that takes what is left."""

import errno
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1 << 16


@dataclass(slots=True)
class Disk:
    """One folder on a file system of its own."""

    folder: Path
    name: str = ".ballast"

    @classmethod
    def mount(cls, folder: Path, size: int) -> "Disk":
        """Put a tmpfs of `size` bytes under the content of `folder`, in this mount namespace only."""
        aside = folder.with_name(f"{folder.name}.moving")
        folder.rename(aside)
        folder.mkdir(mode=0o700)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "unisono-chaos", str(folder)], check=True
        )
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        return cls(folder)

    def fill(self, leave: int = 0) -> int:
        """Leave so many bytes free; return how large the ballast is."""
        taken = 0
        with (self.folder / self.name).open("wb", buffering=0) as file:
            while (left := self._free() - leave) > 0:
                try:
                    taken += file.write(b"\0" * min(_PIECE, left))
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        break
                    raise
        return taken

    def free(self) -> None:
        (self.folder / self.name).unlink(missing_ok=True)

    def release(self, *, keep: bool) -> None:
        """Take the file system away; with `keep` its content stays in the folder, to be studied."""
        self.free()
        aside = self.folder.with_name(f"{self.folder.name}.kept")
        if keep:
            shutil.copytree(self.folder, aside)
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
        if keep:
            self.folder.rmdir()
            aside.rename(self.folder)

    def _free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize
