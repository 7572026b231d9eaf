"""How an update of a round is laid out: what both sides compute from plan, manifest, clients and bounds."""

from typing import Literal

from unisono import strategies
from unisono.codec import Spec, SpecPart, choose_lanes, head_names
from unisono.tensors import Manifest

from .schema import Plan

SEALED_LANES = 32  # bits; single updates lose no precision
What = Literal["train", "evaluate"]


def lanes_of(plan: Plan, clients: int, *, first: bool) -> int:
    """Return the bits of one packed coordinate; `first`: in round 1, where no sum has told a bound yet."""
    if plan.protection.mode == "sealed":
        return SEALED_LANES
    if plan.codec.lanes != "auto":
        return plan.codec.lanes
    return choose_lanes(clients, first=first)


def layout_of(
    plan: Plan, manifest: Manifest, what: What, round_: int, clients: int, bounds: tuple[float, ...]
) -> Spec:
    """Return the layout for `clients` updates.  An evaluation has a head and no lanes.

    Raises BadMessage if this cannot be added up.
    """
    strategy = strategies.load(plan.aggregation.strategy)
    parameters = strategy.Parameters.model_validate(plan.aggregation.parameters)
    parts = strategy.parts(parameters, manifest) if what == "train" else ()
    return Spec(
        lanes=lanes_of(plan, clients, first=round_ == 1),
        clients=clients,
        parts=tuple(
            SpecPart(part.name, part.length, bound, part.weighted == "examples")
            for part, bound in zip(parts, bounds if parts else (), strict=True)
        ),
        head=head_names(manifest.metrics),
        rotation="none" if plan.protection.mode == "sealed" else "hadamard",
    )
