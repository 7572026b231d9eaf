"""The trackers with their real libraries, as `make trackers` installs them; what they wrote is read back."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from unisono.base.ids import Digest, RunId
from unisono.base.system_clock import SystemClock
from unisono.crypto import AtRest, system_entropy
from unisono.plan import Plan, digest
from unisono.server.blobs import LocalDir
from unisono.server.config import Tracking
from unisono.server.rounds import Fact, MetricsKnown, ModelKept, RoundPublished, RunEnded
from unisono.server.tracking import Recorder, open_recorder

pytestmark = [pytest.mark.trackers, pytest.mark.filterwarnings("default")]  # theirs are not ours to mend
RUN = RunId("r-0007")
PLAN = Plan.model_validate({"task": "x", "training": {"learning_rate": 0.5}})
PLAIN = b"a model, in the clear" * 100_000


@pytest.fixture(autouse=True)
def nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no library reach anything: what it then cannot do is not written offline."""
    import socket  # noqa: PLC0415

    real = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        assert host in ("localhost", "127.0.0.1", "::1"), f"a tracker calls {address}"
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


def needs(kind: str) -> None:
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed here: make trackers")


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = LocalDir(folder / "blobs", AtRest(bytes(32)), system_entropy)
        blob = self.blobs.writer()
        blob.write(PLAIN)
        self.model: Digest = blob.commit()

    def recorder(self, kind: str) -> Recorder:
        wanted = Tracking.model_validate({"kind": kind, "models": "last", "project": "cardio"})
        found = open_recorder(wanted, self.folder, self.blobs, SystemClock())
        assert found is not None
        return found

    def play(self, kind: str) -> Path:
        """Two rounds, the coordinator stopped in between."""
        first = self.recorder(kind)
        first.take(RUN, PLAN, self.round(1, 0.9))
        first.close()
        second = self.recorder(kind)
        second.take(RUN, PLAN, (*self.round(2, 0.4), RunEnded("finished", "all rounds are done")))
        second.close()
        return self.folder / "tracking"

    def round(self, number: int, loss: float) -> tuple[Fact, ...]:
        published = RoundPublished(number, 1, (), (), 1.5, self.model)
        return ModelKept(number, self.model), published, MetricsKnown(number, (("loss", loss),))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    before = dict(os.environ)
    yield Stage(tmp_path)
    os.environ.clear()
    os.environ.update(before)


def test_tensorboard_reads_what_was_written(stage: Stage) -> None:
    needs("tensorboard")
    folder = stage.play("tensorboard") / RUN
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    read = EventAccumulator(str(folder))
    read.Reload()
    scalars = [(event.step, round(event.value, 3)) for event in read.Scalars("loss")]
    assert scalars == [(1, 0.9), (2, 0.4)]
    plan = read.Tensors("plan")[0].tensor_proto.string_val[0].decode()
    assert digest(PLAN) in plan
    assert "| training.learning_rate | 0.5 |" in plan
    assert (folder / "model-0002.safetensors").read_bytes() == PLAIN


def test_mlflow_reads_what_was_written(stage: Stage) -> None:
    needs("mlflow")
    folder = stage.play("mlflow")
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cardio")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])  # one, though it was begun twice
    assert (run.info.run_name, run.info.status) == (RUN, "FINISHED")
    assert run.data.params["training.learning_rate"] == "0.5"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.9), (2, 0.4)]
    (model,) = (folder / "artifacts").rglob("*.safetensors")
    assert model.read_bytes() == PLAIN


def test_wandb_writes_offline(stage: Stage) -> None:
    needs("wandb")
    folder = stage.play("wandb") / "wandb"
    runs = sorted(folder.glob("offline-run-*"))
    assert len(runs) == 2  # W&B keeps a part for each start; sync puts them together by their id
    assert all(f"{RUN}-{digest(PLAN)[:8]}" in run.name for run in runs)
    assert all(list(run.glob("*.wandb")) for run in runs)
    (model,) = folder.rglob("model-0002.safetensors")
    assert model.read_bytes() == PLAIN
