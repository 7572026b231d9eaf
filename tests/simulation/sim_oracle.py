"""What a round must publish: computed from the plan, the model before and the names of the survivors alone.

No store, no spool, no masks, no driver, no order of arrival: each survivor's vector is quantised here, the
vectors are added up, and the strategy is applied once.  The fault-free run gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sim_task import SIZE, STEP

from unisono import strategies
from unisono.base.ids import Digest
from unisono.codec import (
    Encoder,
    Rotation,
    Spec,
    client_weight,
    clipped_weight,
    encode_head,
    norm,
    rotation_stream,
    rounding_stream,
)
from unisono.crypto import Stream, sha256_hex
from unisono.plan import Plan, digest
from unisono.plan.layout import layout_of
from unisono.server.aggregation import Apply, Inputs
from unisono.server.rounds import Aggregate
from unisono.tensors import Manifest

EXAMPLES = 50_000
Key = tuple[int, int, tuple[str, ...], Digest, tuple[float, ...]]


@dataclass
class Oracle:
    """Answers for one plan; asked the same again it remembers."""

    plan: Plan
    manifest: Manifest
    known: dict[Key, Digest] = field(default_factory=dict)

    def published(self, order: Aggregate, model: bytes, numbers: Sequence[int]) -> Digest:
        """Return the digest of the model that follows from `model` and the sites with these numbers."""
        names = tuple(client for client, _ in order.updates)
        key = order.round, order.cohort, names, order.model, order.bounds
        if key not in self.known:
            self.known[key] = self._published(order, model, dict(zip(names, numbers, strict=True)))
        return self.known[key]

    def _published(self, order: Aggregate, model: bytes, sites: dict[str, int]) -> Digest:
        plan = self.plan
        spec = layout_of(plan, self.manifest, "train", order.round, order.cohort, order.bounds)
        signs = rotation_stream(plan.seed, order.round, digest(plan))
        total = np.zeros(spec.words, np.uint64)
        for name, number in sites.items():
            key = rounding_stream(plan.seed, order.round, name, order.model)
            total += self._vector(spec, weights_of(self.manifest, model), number, (signs, key))
        strategy = strategies.load(plan.aggregation.strategy)
        sums = total.astype("<u8").tobytes()
        inputs = Inputs(
            spec=spec,
            manifest=self.manifest,
            strategy=strategy,
            parameters=strategy.Parameters.model_validate(plan.aggregation.parameters),
            survivors=len(sites),
            model=lambda offset, length: model[offset : offset + length],
            sums=lambda offset, length: sums[offset : offset + length],
            states={},
            signs=signs if spec.rotation != "none" else b"",
        )
        return sha256_hex(b"".join(made.data for made in Apply(inputs) if made.state is None))

    def _vector(
        self, spec: Spec, model: NDArray[np.float32], number: int, keys: tuple[bytes, bytes]
    ) -> NDArray[np.uint64]:
        signs, rounding = keys
        (part,) = spec.parts
        x = np.zeros(spec.coordinates(part), np.float32)
        x[number - 1] = (model[number - 1] + np.float32(STEP)) - model[number - 1]
        weight = client_weight(EXAMPLES, self.plan.training.max_examples)
        scale = weight if part.weighted else 1.0
        if spec.rotation != "none":
            Rotation(signs, part.length, spec.start(part.name)).forward(x)
            scale = clipped_weight(scale, norm(x), part.bound)
        bits = np.empty(x.size, "<u4")
        Stream(rounding).fill(bits)
        words = np.zeros(spec.words, np.uint64)
        Encoder(spec, part, scale).encode(x, bits, words[: spec.head_offset])
        head = {"one": 1.0, "weight": weight, "loss.sum": float(number), "loss.count": 1.0}
        words[spec.head_offset :] = encode_head(head, spec)
        return words


def weights_of(manifest: Manifest, model: bytes) -> NDArray[np.float32]:
    """Return the numbers of a plain model file."""
    found: NDArray[np.float32] = np.frombuffer(model[manifest.file_bytes - 4 * SIZE :], "<f4")
    return found
