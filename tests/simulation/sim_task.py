"""What sites learn in a simulation: site i changes number i, and no other, always by as much.

So a published model shows who is in it, and how often.
"""

import numpy as np
from numpy.typing import NDArray

from unisono.client import Task
from unisono.client.task import Context, Counts

SIZE = 24
STEP = 10.0
Model = dict[str, NDArray[np.float32]]


class Units(Task):
    metric_names = ("loss",)

    def model(self) -> Model:
        values = np.random.default_rng(7).standard_normal(SIZE)
        return {"w": (100.0 * values).astype(np.float32)}

    def train(self, model: Model, context: Context) -> int:
        model["w"][self.site.number - 1] += np.float32(STEP)
        return 50_000  # half of the largest weight

    def evaluate(self, model: Model, context: Context) -> Counts:
        return {"loss": (float(self.site.number), 1.0)}
