"""What this site agreed to, decoded: plans, manifests and specs are read once, not once an instruction."""

from dataclasses import dataclass
from functools import lru_cache

from unisono.base.ids import Digest, RunId
from unisono.codec import Spec
from unisono.plan import Plan, from_canonical
from unisono.tensors import Manifest

from .vault import Agreed, Vault

KEPT = 8  # of each kind; a client rarely has more than one run


@lru_cache(KEPT)
def plan_of(data: bytes) -> Plan:
    """Read canonical bytes.  Raises BadConfiguration."""
    return from_canonical(data)


@lru_cache(KEPT)
def manifest_of(data: bytes) -> Manifest:
    """Read canonical bytes.  Raises BadMessage."""
    return Manifest.decode(data)


@lru_cache(KEPT)
def spec_of(data: bytes) -> Spec:
    """Read canonical bytes.  Raises BadMessage."""
    return Spec.decode(data)


@dataclass(frozen=True, slots=True)
class Agreement:
    """A run that this site takes part in."""

    run: RunId
    plan: Plan
    digest: Digest  # of the plan
    manifest: Manifest


def agreement(vault: Vault, run: RunId, digest: Digest) -> Agreement | None:
    """Return what was agreed to, if it was this plan and the model was made."""
    agreed: Agreed | None = vault.run(run)
    if agreed is None or agreed.digest != digest or agreed.manifest is None:
        return None
    return Agreement(run, plan_of(agreed.plan), digest, manifest_of(agreed.manifest))
