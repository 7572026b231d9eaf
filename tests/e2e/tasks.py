"""Tasks for the end-to-end tests: plain arrays, so that nobody waits for torch; trouble as the plan says."""

import os
import signal
import time

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from unisono.client import Task
from unisono.client.task import Context, Counts

Model = dict[str, NDArray[np.float32]]
WORDS = "patient Smith, born 1961"  # what user code might print or raise; it must never leave the site


class Parameters(BaseModel, extra="forbid"):
    """`size` values; each training takes `seconds`; client `who` has `trouble` in round `when`."""

    size: int = 1000
    seconds: float = 0.0
    trouble: str = ""
    who: str = ""
    when: int = 1


class Arrays(Task):
    """Adds noise that depends on the plan's seed, the round and the site alone."""

    Parameters = Parameters

    def model(self) -> Model:
        return {"w": np.random.default_rng(7).normal(size=self.site.parameters.size).astype(np.float32)}

    def train(self, model: Model, context: Context) -> int:
        asked: Parameters = self.site.parameters
        print(f"training in round {context.round}", flush=True)  # to trainer.log, where tests wait for it
        if asked.who == self.site.name and asked.when == context.round:
            self.fail(model, asked.trouble)
        for step in range(20):
            time.sleep(asked.seconds / 20)
            context.progress(step + 1, 20)
        noise = np.random.default_rng(context.seed).normal(size=asked.size)
        model["w"] += np.float32(0.01) * noise.astype(np.float32)
        return 10 * self.site.number

    def evaluate(self, model: Model, context: Context) -> Counts:
        rows = 10.0 * self.site.number
        return {"level": (float(np.abs(model["w"]).mean()) * rows, rows)}

    def fail(self, model: Model, trouble: str) -> None:
        match trouble:
            case "raises":
                raise ValueError(WORDS)
            case "nan":
                model["w"][3] = np.nan
            case "killed":
                print(WORDS, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(600)


class Larger(Arrays):
    """The same with one value more: another model than everybody else's."""

    def model(self) -> Model:
        return {"w": np.ones(self.site.parameters.size + 1, np.float32)}


class Patterns(Arrays):
    """Adds a pattern that a test knows."""

    def train(self, model: Model, context: Context) -> int:
        print(f"training in round {context.round}", flush=True)
        model["w"] += pattern(self.site.number, context.round, model["w"].size)
        time.sleep(self.site.parameters.seconds)
        return 10 * self.site.number


def pattern(number: int, round_: int, size: int) -> NDArray[np.float32]:
    """What the site of this number adds in a round: other bytes for every site and round."""
    random = np.random.default_rng(1000 * round_ + number)
    return random.normal(scale=0.01, size=size).astype(np.float32)
