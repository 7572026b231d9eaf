"""From what a strategy wants sent to the spec of the round's vector."""

from collections.abc import Mapping, Sequence

from unisono.codec import Spec, SpecPart, head_names

from .contract import Part


def spec_for(
    parts: Sequence[Part], bounds: Mapping[str, float], metrics: Sequence[str], *, lanes: int, clients: int
) -> Spec:
    """Return the spec that client and coordinator both compute, from public values only.

    `bounds` has a bound for every part (`codec.first_bound`, `codec.next_bound`); `metrics` are the
    manifest's.  Raises BadMessage if the numbers do not fit.
    """
    found = tuple(SpecPart(p.name, p.length, bounds[p.name], p.weighted == "examples") for p in parts)
    return Spec(lanes, clients, found, head_names(metrics))
