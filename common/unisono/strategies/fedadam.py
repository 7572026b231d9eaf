"""FedAdam: Adam at the coordinator, with the clients' mean change in the gradient's place.

Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan, "Adaptive Federated Optimization",
ICLR 2021, algorithm 2.  https://arxiv.org/abs/2003.00295

    d  = sum_k n_k (w_k - w) / sum_k n_k
    m <- beta1 m + (1 - beta1) d                        m starts at 0
    v <- beta2 v + (1 - beta2) d^2                      v starts at tau^2
    w <- w + S m / (sqrt(v) + tau)

As in the paper there is *no bias correction*: v starts at tau^2 instead (others start it at 0, or
correct; their results differ from ours for the same parameters).  `tau` is how adaptive it is, not only a
guard against division by zero; the paper tunes it over 1e-5..1e-1.  Weighted by examples, as in the
paper's experiments.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from unisono.tensors import Manifest

from .contract import Needs, Parameters, Part, State, Sums, Vector

DELTA, MEAN, SQUARE = "delta", "m", "v"


class FedAdamParameters(Parameters):
    """The paper's names; `learning_rate` is S, best between 10^-2.5 and 10^-1 on most of its tasks."""

    learning_rate: float = Field(default=0.01, gt=0, le=100)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=1e-3, ge=1e-9, le=10)


class FedAdam:
    """Adaptive steps along the weighted mean of the clients' changes."""

    name: ClassVar[str] = "fedadam"
    Parameters = FedAdamParameters
    needs = Needs()

    def parts(self, p: FedAdamParameters, manifest: Manifest) -> tuple[Part, ...]:
        return (Part(DELTA, manifest.length, "examples"),)

    def state(self, p: FedAdamParameters) -> tuple[str, ...]:
        return (MEAN, SQUARE)

    def init(self, p: FedAdamParameters, name: str, model: Vector) -> Vector:
        first = {MEAN: 0.0, SQUARE: p.tau**2}[name]
        return np.full_like(model, np.float32(first))

    def apply(
        self, p: FedAdamParameters, state: Mapping[str, Vector], model: Vector, sums: Sums
    ) -> tuple[State, Vector]:
        delta = sums.mean[DELTA]
        mean = np.float32(p.beta1) * state[MEAN] + np.float32(1 - p.beta1) * delta
        square = np.float32(p.beta2) * state[SQUARE] + np.float32(1 - p.beta2) * (delta * delta)
        root: Vector = np.sqrt(square)
        step = mean / (root + np.float32(p.tau))
        return {MEAN: mean, SQUARE: square}, model + np.float32(p.learning_rate) * step
