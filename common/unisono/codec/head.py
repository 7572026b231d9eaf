"""The head: numbers that ride at the end of the vector, one whole word each.

Fixed point in two's complement, 24 fractional bits, so that sums mod 2^64 are exact sums: no lane, no
carry, no rounding after the client's own.  A number may be as large as the sum of all clients allows
(n * max < 2^63).  Names in order: "one" (1 from everyone: must sum to the survivors), "weight", and for
every metric its sum and its count.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from unisono.base.errors import BadUpdate

from .lanes import Words
from .spec import Spec

UNIT = 1 << 24  # the word of the number 1: 24 fractional bits
ONE, WEIGHT = "one", "weight"


def head_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a head that carries these metrics."""
    return (ONE, WEIGHT, *(f"{m}.{kind}" for m in metrics for kind in ("sum", "count")))


def client_weight(examples: int, max_examples: int) -> float:
    """Return min(examples, max_examples) / max_examples as the head will carry it.

    Rounded to 24 fractional bits, at least one of them, *before* it multiplies the update: then the sum
    of weights in the head is exactly the divisor of the weighted sum, however small a client is.
    """
    if examples < 1 or max_examples < 1:
        raise BadUpdate(f"a weight of {examples} of {max_examples} examples; both must be 1 or more")
    share = min(examples, max_examples) / max_examples
    return max(1, round(share * UNIT)) / UNIT


def encode_head(values: Mapping[str, float], spec: Spec) -> Words:
    """Return the head's words.  Raises BadUpdate for a number that is missing, not finite or too large."""
    if values.keys() != set(spec.head):
        raise BadUpdate(f"the head needs {', '.join(spec.head)}; there are {', '.join(values)}")
    most = (2**63 - 1) // spec.clients
    words: list[int] = []
    for name in spec.head:
        value = values[name]
        scaled = round(value * UNIT) if math.isfinite(value) else most + 1
        if abs(scaled) > most:
            raise BadUpdate(f'"{name}" is {value}; it must be finite and at most {most / UNIT:.3g}')
        words.append(scaled)
    return np.array(words, np.int64).view(np.uint64)


def decode_head(words: Words, spec: Spec) -> dict[str, float]:
    """Return the numbers of a client's head or of the sum of many."""
    if words.size != len(spec.head):
        raise BadUpdate(f"a head of {words.size} words; the spec has {len(spec.head)}")
    signed = words.view(np.int64).tolist()
    return {name: value / UNIT for name, value in zip(spec.head, signed, strict=True)}
