"""FedSGD: one step of gradient descent on the gradient of everybody's data.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, section 2.  https://arxiv.org/abs/1602.05629

    w <- w - S * sum_k n_k grad F_k(w) / sum_k n_k

Each client sends the gradient of its mean loss over *all* its examples at the round's model (hook
"gradient": no local optimiser, one pass), so a round equals one full-batch step on the joined data, and
FedAvg with one epoch, one batch, plain SGD and learning rate S.  Floating buffers have no gradient: the
hook sends minus their change divided by S, and they end as the weighted mean, as in FedAvg.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from unisono.tensors import Manifest

from .contract import Needs, Parameters, Part, State, Sums, Vector

GRADIENT = "gradient"


class FedSGDParameters(Parameters):
    """`learning_rate` is S, the step along the negative gradient."""

    learning_rate: float = Field(default=0.1, gt=0, le=1000)


class FedSGD:
    """Full-batch gradient descent over all clients."""

    name: ClassVar[str] = "fedsgd"
    Parameters = FedSGDParameters
    needs = Needs(local="gradient")

    def parts(self, p: FedSGDParameters, manifest: Manifest) -> tuple[Part, ...]:
        return (Part(GRADIENT, manifest.length, "examples"),)

    def state(self, p: FedSGDParameters) -> tuple[str, ...]:
        return ()

    def init(self, p: FedSGDParameters, name: str, model: Vector) -> Vector:
        raise KeyError(name)

    def apply(
        self, p: FedSGDParameters, state: Mapping[str, Vector], model: Vector, sums: Sums
    ) -> tuple[State, Vector]:
        return {}, model - np.float32(p.learning_rate) * sums.mean[GRADIENT]
