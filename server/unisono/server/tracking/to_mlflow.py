"""MLflow: a run in a local SQLite store, through the client's own interface; no server is asked.

Look at it with: mlflow server --backend-store-uri sqlite:///DIR/coordinator/tracking/mlflow.db
"""

import os
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported: it reports home
os.environ.setdefault("DO_NOT_TRACK", "true")

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from unisono.base.ids import RunId

from .contract import Begin

_MINE = "unisono.run"  # tag: a run that goes on after a restart is found by it
_STATES = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_LONGEST = 6000  # characters of a parameter


class MLflow:
    """Runs of one experiment."""

    def __init__(self, folder: Path, project: str) -> None:
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(project)
        artifacts = (folder / "artifacts").resolve().as_uri()
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(project, artifacts)
        )
        self._runs: dict[RunId, str] = {}

    def begin(self, about: Begin) -> None:
        query = f"tags.`{_MINE}` = '{about.run}' AND tags.plan_sha256 = '{about.plan_sha256}'"
        known = self._client.search_runs([self._experiment], query, max_results=1)
        if known:
            self._runs[about.run] = known[0].info.run_id
            return
        tags = {_MINE: about.run, "plan_sha256": about.plan_sha256, "task": about.task}
        made = self._client.create_run(self._experiment, tags=tags, run_name=about.run)
        self._runs[about.run] = made.info.run_id
        parameters = [Param(key, value[:_LONGEST]) for key, value in about.parameters.items()]
        self._client.log_batch(made.info.run_id, params=parameters)

    def metrics(self, run: RunId, round_: int, values: Mapping[str, float], wall: float) -> None:
        found = [Metric(name, value, int(wall * 1000), round_) for name, value in values.items()]
        self._client.log_batch(self._runs[run], metrics=found)

    def model(self, run: RunId, round_: int, file: Path) -> None:
        self._client.log_artifact(self._runs[run], str(file), "models")

    def end(self, run: RunId, state: str, reason: str) -> None:
        name = self._runs.pop(run)
        self._client.set_tag(name, "reason", reason[:_LONGEST])
        self._client.set_terminated(name, _STATES.get(state, "FINISHED"))

    def close(self) -> None:
        self._runs.clear()


def open_tracker(folder: Path, project: str) -> MLflow:
    """Return a tracker that writes to FOLDER/mlflow.db and FOLDER/artifacts."""
    return MLflow(folder, project)
