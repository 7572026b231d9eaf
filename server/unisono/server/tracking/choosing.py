"""Which tracker the configuration asks for.  What it needs is looked for at the start, not in a run."""

import importlib
from collections.abc import Callable
from pathlib import Path

from unisono.base.clock import Clock
from unisono.base.errors import BadConfiguration
from unisono.base.ids import Digest
from unisono.server.blobs import LocalDir
from unisono.server.config import Tracking

from .contract import Tracker  # noqa: TC001
from .recorder import Recorder

_PIECE = 1 << 20


def open_recorder(wanted: Tracking, folder: Path, blobs: LocalDir, clock: Clock) -> Recorder | None:
    """Return what records runs, or None.  `folder`: the coordinator's.

    Raises BadConfiguration if the package is missing, saying how to get it, or the tracker does not start.
    """
    if not wanted.kind:
        return None
    place = Path(wanted.folder) if wanted.folder else folder / "tracking"
    try:
        found = importlib.import_module(f"{__package__}.to_{wanted.kind}")
    except ImportError as error:
        raise BadConfiguration(
            f'coordinator.toml: [tracking] kind = "{wanted.kind}" needs a package that is missing ({error})\n'
            f"  pip install 'unisono[{wanted.kind}]'"
        ) from error
    make: Callable[[Path, str], Tracker] = found.open_tracker
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        tracker = make(place, wanted.project)
    except Exception as error:
        raise BadConfiguration(
            f'coordinator.toml: [tracking] kind = "{wanted.kind}" cannot write to {place}: '
            f"{type(error).__name__}: {error}\n  choose another [tracking] folder, or leave [tracking] out"
        ) from error
    return Recorder(tracker, lambda digest, file: _copy(blobs, digest, file), wanted.models, clock)


def _copy(blobs: LocalDir, digest: Digest, file: Path) -> None:
    """Write a model's plain bytes."""
    with blobs.open(digest) as reader, file.open("wb") as out:
        for offset in range(0, reader.size, _PIECE):
            out.write(reader.read(offset, min(_PIECE, reader.size - offset)))
