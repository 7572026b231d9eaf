import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from unisono.client import Task


class Digits(Task):
    def rows(self):  # label skew: digits sorted and cut into 8 shards, sites 1-4 have two each
        x, y = (torch.tensor(column) for column in load_digits(return_X_y=True))
        x = (x / 16).float().view(-1, 1, 8, 8)
        mine = torch.cat(y.argsort(stable=True).chunk(8)[self.site.number - 1 :: 4])
        return [(x[part], y[part]) for part in train_test_split(mine, test_size=0.2, random_state=1)]

    def train_data(self):
        return self.rows()[0]

    def eval_data(self):
        return self.rows()[1]

    def model(self):
        body = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
        return nn.Sequential(*body, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model, batch):
        return {"accuracy": ((model(batch[0]).argmax(1) == batch[1]).sum(), len(batch[1]))}
