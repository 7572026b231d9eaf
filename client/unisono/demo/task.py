"""Wisconsin breast cancer at several hospitals: each has its own patients, a fifth of them held out."""

import torch
from pydantic import BaseModel, PositiveInt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor, nn
from torch.utils.data import TensorDataset

from unisono.client import Task


class Parameters(BaseModel, extra="forbid"):
    """The plan's `[task_parameters]`: among how many sites the 569 patients are divided."""

    parts: PositiveInt = 3


class BreastCancer(Task):
    """Tells benign (1) from malignant (0) by 30 measurements of a cell sample."""

    Parameters = Parameters

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(30, 10), nn.ReLU(), nn.Linear(10, 1), nn.Sigmoid(), nn.Flatten(0))

    def split(self) -> tuple[TensorDataset, TensorDataset]:
        """Return this site's rows to train and to hold out, both scaled by the first."""
        x, y = (torch.tensor(column, dtype=torch.float32) for column in load_breast_cancer(return_X_y=True))
        parts = self.site.parameters.parts
        shuffled = torch.randperm(len(y), generator=Generator().manual_seed(1))
        mine = shuffled[(self.site.number - 1) % parts :: parts]
        train, held_out = train_test_split(mine, test_size=0.2, stratify=y[mine], random_state=1)
        x = (x - x[train].mean(0)) / x[train].std(0)
        return TensorDataset(x[train], y[train]), TensorDataset(x[held_out], y[held_out])

    def train_data(self) -> TensorDataset:
        return self.split()[0]

    def eval_data(self) -> TensorDataset:
        return self.split()[1]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.binary_cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, tuple[Tensor, int]]:
        right = (model(batch[0]) > 0.5) == batch[1]
        return {"accuracy": (right.sum(), len(right))}
