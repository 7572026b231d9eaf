"""`unisono predict`: a model from a file, a task's held-out rows, a CSV."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unisono.base.errors import BadConfiguration
from unisono.client.task import Task
from unisono.plan import Plan
from unisono.tensors import Manifest

from .failures import user_code
from .model_file import load
from .workbench import Workbench, unseen


def predict(task: Task, plan: Plan, device: str, model: Path, out: Path) -> int:
    """Write `row` and the prediction's columns for every row of `eval_data()`; return the rows.

    A prediction of one number a row has the column `prediction`, of several `prediction_0`, `prediction_1`...
    Raises Failed if the file holds another model, BadConfiguration if there is nothing to predict.
    """
    bench = Workbench(task, plan, device, threads=1)
    held = bench.make()
    with model.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        load(held, Manifest(held.entries()), read)
    context = bench.context("predict", 0, unseen)
    with out.open("w", newline="") as table, user_code():
        rows = _written(csv.writer(table), bench.loops.predictions(task, held.made, context))
    if not rows:
        raise BadConfiguration(
            f"eval_data() of {type(task).__name__} has no rows; there is nothing to predict"
        )
    return rows


class Writer(Protocol):
    """What `csv.writer` returns."""

    def writerow(self, row: Iterable[object], /) -> object: ...


def _written(writer: Writer, batches: Iterable[Any]) -> int:
    row = 0
    for found in batches:
        array = np.asarray(found)  # of tensors, numbers or words, whatever a task returned
        table = array.reshape(len(array), -1)
        if row == 0:
            width = table.shape[1]
            writer.writerow(
                ["row", *(["prediction"] if width == 1 else map("prediction_{}".format, range(width)))]
            )
        for line in table.tolist():
            writer.writerow([row, *line])
            row += 1
    return row
