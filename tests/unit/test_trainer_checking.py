"""`unisono task check` and `unisono predict`: what they find, in processes of their own and here."""

import csv
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from unisono.base.errors import BadConfiguration
from unisono.client.task import Site, create, load
from unisono.client.trainer.asking import Finding, Setting, check, predict
from unisono.client.trainer.checking import Examination
from unisono.plan import Plan

STEPS = ["task", "model", "metrics", "evaluate", "safetensors", "train", "repeat"]
TASKS = """
import os, random, torch
from torch import nn
from unisono.client import Task

class Good(Task):
    def model(self):
        return nn.Linear(2, 1)
    def train_data(self):
        return torch.ones(8, 2), torch.ones(8, 1)
    def eval_data(self):
        return torch.arange(6.0).view(3, 2), torch.ones(3, 1)
    def loss(self, model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])

class NoModel(Good):
    def model(self):
        return 3

class Frozen(Good):
    def model(self):
        return super().model().requires_grad_(False)

class BadMetric(Good):
    def metrics(self, model, batch):
        return {"accuracy": 0.5}

class Still(Good):
    def optimizer(self, parameters):
        return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)

class Unseeded(Good):
    def loss(self, model, batch):
        return super().loss(model, batch) * int.from_bytes(os.urandom(4)) / 2**32
    def optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=0.1)

class Infinite(Good):
    def optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=float("inf"))

class Aborts(Good):
    def loss(self, model, batch):
        os.abort()

class NothingHeldOut(Good):
    def eval_data(self):
        return None

class Partly(Good):
    def model(self):
        made = nn.Linear(2, 2)
        made.register_buffer("row", made.weight.data[0])
        return made
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checked.py"
    path.write_text(TASKS)
    return path


def examined(file: Path, name: str) -> list[Finding]:
    kind = load(f"{file}:{name}")
    return list(Examination(lambda: create(kind, Site("check"), {}), Plan(task="check"), "cpu").findings())


def test_a_good_task_passes_every_step(file: Path) -> None:
    findings = check(f"{file}:Good", Setting(device="cpu"))
    assert [f.step for f in findings] == STEPS
    assert {f.state for f in findings} == {"ok"}
    assert "2 tensors, 3 trainable values" in findings[1].text


@pytest.mark.parametrize(
    ("name", "step", "words"),
    [
        ("NoModel", "model", "model() returned int"),
        ("Frozen", "model", "no tensor of the model is trainable"),
        ("Partly", "model", "share a part of their memory"),
        ("BadMetric", "metrics", "give {name: (sum, count)}"),
        ("Still", "train", "training changed nothing"),
        ("Infinite", "train", "not finite"),
        ("Unseeded", "repeat", "the same seed gave another update"),
    ],
)
def test_a_problem_is_named_at_its_step(file: Path, name: str, step: str, words: str) -> None:
    *before, last = examined(file, name)
    assert (last.step, last.state) == (step, "problem")
    assert words in last.text
    assert last.advice
    assert all(f.state == "ok" for f in before)


def test_a_site_without_held_out_rows_is_told_what_that_means(file: Path) -> None:
    findings = {f.step: f for f in examined(file, "NothingHeldOut")}
    assert "no held-out data" in findings["evaluate"].text


def test_a_task_that_kills_its_process_is_a_finding_too(file: Path) -> None:
    *_, last = check(f"{file}:Aborts", Setting(device="cpu"))
    assert last.state == "problem"
    assert "SIGABRT" in last.text


def test_a_plan_that_is_wrong_is_a_finding(file: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('task = "t"\n[training]\nepoch = 3\n')
    (only,) = check(f"{file}:Good", Setting(plan=tmp_path / "plan.toml"))
    assert (only.step, only.state) == ("plan", "problem")
    assert 'did you mean "epochs"' in only.text


def test_predictions_are_one_line_a_row(file: Path, tmp_path: Path) -> None:
    model, out = nn.Linear(2, 1), tmp_path / "predictions.csv"
    safetensors.torch.save_file(model.state_dict(), tmp_path / "m.safetensors")
    assert predict(f"{file}:Good", tmp_path / "m.safetensors", out, Setting(device="cpu")) == 3
    with out.open() as text:
        header, *rows = csv.reader(text)
    assert header == ["row", "prediction"]
    expected = model(torch.arange(6.0).view(3, 2)).flatten().tolist()
    assert [int(row) for row, _ in rows] == [0, 1, 2]
    assert [float(value) for _, value in rows] == pytest.approx(expected)
    other = nn.Linear(5, 1)
    safetensors.torch.save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(BadConfiguration, match=r'tensor "weight" has shape \(1, 5\)'):
        predict(f"{file}:Good", tmp_path / "other.safetensors", out, Setting(device="cpu"))
