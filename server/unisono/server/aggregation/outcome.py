"""What the head of a sum says about the round."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate
from unisono.codec import Spec, decode_head


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a round, beside the model.

    `weight` is the sum of client weights.  `metrics` are sum / count over all survivors; one that nobody
    counted is absent.  `mean_norm` of a part is the norm of (sum of what was sent) / survivors, which is
    what `codec.next_bound` takes; it is empty for a round that only evaluates.
    """

    survivors: int
    weight: float
    metrics: Mapping[str, float]
    mean_norm: Mapping[str, float] = field(default_factory=dict)


def read_head(spec: Spec, words: NDArray[np.uint64], survivors: int) -> Outcome:
    """Return what the summed head says.

    Raises BadUpdate if the word "1" does not sum to the survivors (a mask is wrong, or an upload was
    counted twice or not at all), the weight cannot be, or a number is larger than clients may send: the sum
    of all would overflow, and then nobody could say whose fault it is.
    """
    values = decode_head(words, spec)
    most = survivors * ((2**63 - 1) // spec.clients)
    for name, word in zip(spec.head, words.view(np.int64).tolist(), strict=True):
        if abs(word) > most:
            raise BadUpdate(
                f'"{name}" is {values[name]:.3g}; {survivors} of {spec.clients} clients reach less'
            )
    if values["one"] != survivors:
        raise BadUpdate(
            f"the sum counts {values['one']} clients, not the {survivors} survivors: an upload was "
            "altered, lost or counted twice, or a mask is wrong"
        )
    weight = values["weight"]
    if not (0 <= weight <= survivors) or (weight == 0 and any(p.weighted for p in spec.parts)):
        raise BadUpdate(
            f"the weights of {survivors} clients sum to {weight:g}; each is above 0 and at most 1"
        )
    metrics = {}
    for name in (n.removesuffix(".sum") for n in spec.head if n.endswith(".sum")):
        count = values[f"{name}.count"]
        if count < 0:
            raise BadUpdate(f'metric "{name}" has the count {count:g}')
        if count > 0:
            metrics[name] = values[f"{name}.sum"] / count
    return Outcome(survivors, weight, metrics)
