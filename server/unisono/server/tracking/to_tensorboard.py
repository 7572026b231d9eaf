"""TensorBoard: an event file a run, written by tensorboard's own writer; no TensorFlow.

Look at it with: tensorboard --logdir DIR/coordinator/tracking
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from unisono.base.ids import RunId

from .contract import Begin


class TensorBoard:
    """One writer for each run that goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[RunId, EventFileWriter] = {}

    def begin(self, about: Begin) -> None:
        writer = EventFileWriter(str(self._folder / about.run))
        self._writers[about.run] = writer
        rows = "\n".join(f"| {key} | {value} |" for key, value in sorted(about.parameters.items()))
        writer.add_event(_text("plan", f"plan {about.plan_sha256}\n\n| key | value |\n|---|---|\n{rows}"))

    def metrics(self, run: RunId, round_: int, values: Mapping[str, float], wall: float) -> None:
        summary = Summary(value=[Summary.Value(tag=name, simple_value=v) for name, v in values.items()])
        writer = self._writers[run]
        writer.add_event(Event(wall_time=wall, step=round_, summary=summary))
        writer.flush()

    def model(self, run: RunId, round_: int, file: Path) -> None:
        shutil.copyfile(file, self._folder / run / file.name)

    def end(self, run: RunId, state: str, reason: str) -> None:
        writer = self._writers.pop(run)
        writer.add_event(_text("end", f"{state}: {reason}"))
        writer.close()

    def close(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()


def _text(tag: str, text: str) -> Event:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    metadata = create_summary_metadata(display_name=tag, description="")
    return Event(summary=Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))


def open_tracker(folder: Path, project: str) -> TensorBoard:
    """Return a tracker that writes to FOLDER/RUN; a project is MLflow's and W&B's word."""
    del project
    return TensorBoard(folder)
