import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn

from unisono.client import Task


class BreastCancer(Task):
    def rows(self):  # sites 1, 2, 3: each a third of the patients, a fifth of its own held out
        x, y = (torch.tensor(column, dtype=torch.float32) for column in load_breast_cancer(return_X_y=True))
        mine = torch.randperm(len(y), generator=torch.manual_seed(1))[self.site.number - 1 :: 3]
        train, test = train_test_split(mine, test_size=0.2, stratify=y[mine], random_state=1)
        x = (x - x[train].mean(0)) / x[train].std(0)
        return (x[train], y[train]), (x[test], y[test])

    def train_data(self):
        return self.rows()[0]

    def eval_data(self):
        return self.rows()[1]

    def model(self):
        return nn.Sequential(nn.Linear(30, 10), nn.ReLU(), nn.Linear(10, 1), nn.Sigmoid(), nn.Flatten(0))

    def loss(self, model, batch):
        return nn.functional.binary_cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model, batch):
        return {"accuracy": (((model(batch[0]) > 0.5) == batch[1]).sum(), len(batch[1]))}
