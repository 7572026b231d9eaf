"""How an update of a round is laid out: what both sides compute from plan, manifest, cohort and bounds."""

from typing import Literal

from unisono import strategies
from unisono.codec import Spec, SpecPart
from unisono.crypto import ENVELOPE, encode, sealed_length
from unisono.plan import Plan
from unisono.tensors import Manifest


def head_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the words behind the lanes: count, weight, each metric's sum and count."""
    metrics = (f"{name}.{word}" for name in manifest.metrics for word in ("sum", "count"))
    return ("one", "weight", *metrics)


def spec_of(
    plan: Plan,
    manifest: Manifest,
    what: Literal["train", "evaluate"],
    clients: int,
    bounds: tuple[float, ...],
) -> Spec:
    """Return the layout for `clients` updates.  An evaluation has a head and no lanes."""
    strategy = strategies.load(plan.aggregation.strategy)
    parameters = strategy.Parameters.model_validate(plan.aggregation.parameters)
    parts = strategy.parts(parameters, manifest) if what == "train" else ()
    return Spec(
        lanes=plan.lanes(clients),
        clients=clients,
        parts=tuple(
            SpecPart(part.name, part.length, bound, part.weighted == "examples")
            for part, bound in zip(parts, bounds if parts else (), strict=True)
        ),
        head=head_of(manifest),
    )


def upload_bytes(spec: Spec) -> int:
    """Return the exact size of a sealed update."""
    return ENVELOPE + sealed_length(spec.bytes)


def seal_context(run: str, round_: int, client: str, model: str, spec: Spec) -> bytes:
    """Return what a sealed update is bound to.  Not to the attempt: a retry sends the same bytes."""
    return encode("update", run, round_, client, model, spec.digest)
