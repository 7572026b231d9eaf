"""FedAvg: the mean of the clients' changes, weighted by examples.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, algorithm 1.  https://arxiv.org/abs/1602.05629

    w <- w + S * sum_k n_k (w_k - w) / sum_k n_k        over the clients that arrived

Weights are renormalised over the survivors, not over the cohort: with S = 1 the next model is exactly
the weighted mean of their models.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from unisono.tensors import Manifest

from .contract import Needs, Parameters, Part, State, Sums, Vector

DELTA = "delta"


class FedAvgParameters(Parameters):
    """`server_learning_rate` is S: 1 is the paper's FedAvg; other values are FedOpt with SGD (Reddi 2021)."""

    server_learning_rate: float = Field(default=1.0, gt=0, le=100)


class FedAvg:
    """The weighted mean of the clients' models."""

    name: ClassVar[str] = "fedavg"
    Parameters = FedAvgParameters
    needs = Needs()

    def parts(self, p: FedAvgParameters, manifest: Manifest) -> tuple[Part, ...]:
        return (Part(DELTA, manifest.length, "examples"),)

    def state(self, p: FedAvgParameters) -> tuple[str, ...]:
        return ()

    def init(self, p: FedAvgParameters, name: str, model: Vector) -> Vector:
        raise KeyError(name)

    def apply(
        self, p: FedAvgParameters, state: Mapping[str, Vector], model: Vector, sums: Sums
    ) -> tuple[State, Vector]:
        return {}, model + np.float32(p.server_learning_rate) * sums.mean[DELTA]
