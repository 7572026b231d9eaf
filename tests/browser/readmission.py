"""A task whose model gets better round by round, without torch; each round takes as long as the plan says."""

import time

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from unisono.client import Task
from unisono.client.task import Context, Counts

Model = dict[str, NDArray[np.float32]]


class Parameters(BaseModel, extra="forbid"):
    """`size` values, moved by `rate` of the way to those of the site."""

    size: int = 2000
    seconds: float = 0.0
    rate: float = 0.35


class Readmission(Task):
    """Fits a vector that all sites know a noisy version of."""

    Parameters = Parameters

    def model(self) -> Model:
        return {"w": np.zeros(self.site.parameters.size, np.float32)}

    def train(self, model: Model, context: Context) -> int:
        asked: Parameters = self.site.parameters
        for step in range(20):
            time.sleep(asked.seconds / 20)
            context.progress(step + 1, 20)
        noise = np.random.default_rng(context.seed).normal(scale=0.6, size=asked.size)
        model["w"] += np.float32(asked.rate) * (self.truth() - model["w"] + noise.astype(np.float32))
        return 100 + 10 * self.site.number

    def evaluate(self, model: Model, context: Context) -> Counts:
        rows = 20.0 + self.site.number
        loss = float(np.square(self.truth() - model["w"]).mean())
        return {"loss": (loss * rows, rows), "accuracy": ((1 - loss / (1 + loss)) * rows, rows)}

    def truth(self) -> NDArray[np.float32]:
        asked: Parameters = self.site.parameters
        return np.random.default_rng(5).normal(size=asked.size).astype(np.float32)
