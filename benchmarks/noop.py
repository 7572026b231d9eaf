"""A task that costs nothing: plain arrays, one addition a round.  What is left is the federation's own time.

Imports no torch.  With `--data DIR` it leaves its resident size after all imports, before the model exists,
in DIR/NAME.imports, so that the benchmark can tell the model's memory from Python's.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from unisono.client import Task
from unisono.client.task import Context, Counts, Site

PATTERN = 1 << 16  # values that are repeated over a tensor: adding them needs no second copy of it
TENSORS = 4


class NoOp(Task):
    """`[task_parameters] mb`: the model's size in units of 10^6 bytes."""

    metric_names = ("loss",)

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        if site.data is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            (site.data / f"{site.name}.imports").write_text(str(pages * os.sysconf("SC_PAGE_SIZE")))

    def model(self) -> dict[str, Any]:
        """Return float32 arrays of `mb` megabytes in all."""
        size = round(float(self.site.parameters["mb"]) * 1_000_000) // 4 // TENSORS
        random = np.random.default_rng(7)
        return {
            f"layer{number}.weight": random.random(size, dtype=np.float32) - np.float32(0.5)
            for number in range(TENSORS)
        }

    def train(self, model: dict[str, Any], context: Context) -> int:
        """Add small values, other ones for each client and round."""
        pattern = np.random.default_rng(context.seed).uniform(-1e-3, 1e-3, PATTERN).astype(np.float32)
        pattern[pattern == 0] = np.float32(1e-6)
        for array in model.values():
            whole = array.size - array.size % PATTERN
            rows = array[:whole].reshape(-1, PATTERN)
            rows += pattern
            array[whole:] += pattern[: array.size - whole]
        return 100

    def evaluate(self, model: dict[str, Any], context: Context) -> Counts:
        """Return a number without looking at the data: there is none."""
        return {"loss": (float(abs(model["layer0.weight"][0])), 1.0)}
