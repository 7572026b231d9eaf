"""Weights & Biases, offline: runs are written to a folder and stay there until somebody sends them.

Send them with: wandb sync DIR/coordinator/tracking/wandb/offline-run-*
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import wandb

from unisono.base.ids import RunId

from .contract import Begin


class WeightsAndBiases:
    """One offline run for each of ours."""

    def __init__(self, folder: Path, project: str) -> None:
        self._folder, self._project = folder, project
        self._runs: dict[RunId, wandb.Run] = {}

    def begin(self, about: Begin) -> None:
        settings = wandb.Settings(
            console="off", silent=True, x_disable_stats=True, x_disable_machine_info=True
        )
        self._runs[about.run] = wandb.init(
            mode="offline",
            dir=str(self._folder),
            project=self._project,
            id=f"{about.run}-{about.plan_sha256[:8]}",
            name=about.run,
            job_type=about.task,
            config={**about.parameters, "plan_sha256": about.plan_sha256},
            resume="allow",
            reinit="create_new",
            settings=settings,
        )

    def metrics(self, run: RunId, round_: int, values: Mapping[str, float], wall: float) -> None:
        # W&B's own step must rise; metrics of a round come in two parts, so the round is a value
        self._runs[run].log({**values, "round": round_, "wall": wall})

    def model(self, run: RunId, round_: int, file: Path) -> None:
        kept = (
            Path(self._runs[run].dir) / file.name
        )  # the file given is deleted, and offline nothing is sent yet
        shutil.copyfile(file, kept)

    def end(self, run: RunId, state: str, reason: str) -> None:
        found = self._runs.pop(run)
        found.summary["state"], found.summary["reason"] = state, reason
        found.finish(exit_code=0 if state == "finished" else 1)

    def close(self) -> None:
        while self._runs:
            self._runs.popitem()[1].finish()


def open_tracker(folder: Path, project: str) -> WeightsAndBiases:
    """Return a tracker that writes to FOLDER/wandb."""
    return WeightsAndBiases(folder, project)
