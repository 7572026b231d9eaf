"""What a tracker can do.  Calls come from one thread, in order; a run may begin again after a restart."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unisono.base.ids import Digest, RunId


@dataclass(frozen=True, slots=True)
class Begin:
    """A run, and its plan as flat parameters: "training.batch_size" = "32"."""

    run: RunId
    task: str
    plan_sha256: Digest
    parameters: Mapping[str, str]


class Tracker(Protocol):
    """Writes runs down.  May raise anything: it is logged once, and the run goes on."""

    def begin(self, about: Begin) -> None:
        """Begin a run, or go on with it."""
        ...

    def metrics(self, run: RunId, round_: int, values: Mapping[str, float], wall: float) -> None:
        """Write what is known of a round."""
        ...

    def model(self, run: RunId, round_: int, file: Path) -> None:
        """Keep a model, a plain safetensors file that is deleted afterwards."""
        ...

    def end(self, run: RunId, state: str, reason: str) -> None:
        """End a run: "finished", "failed" or "stopped"."""
        ...

    def close(self) -> None:
        """Write what is left; runs that go on are begun again at the next start."""
        ...
