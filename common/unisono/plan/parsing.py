"""Bytes to plan and back: the file that people write, and the canonical bytes that travel."""

import json

from unisono.base.errors import BadConfiguration
from unisono.base.ids import Digest
from unisono.crypto.digest import sha256_hex

from .checking import conflicts
from .methods import complete
from .reading import MAX_BYTES, Source, load
from .schema import Plan

_MAX_CANONICAL = 4 * MAX_BYTES  # the defaults are filled in


def parse(data: bytes, name: str = "plan.toml") -> Plan:
    """Return the plan in a TOML file, its strategy's parameters checked and completed.

    Raises BadConfiguration naming file, key, line and what to write; also for keys that contradict each
    other.
    """
    source = load(data, name)
    plan = source.into(Plan)
    filled, wrong = complete(plan)
    found = wrong or conflicts(filled)
    if found:
        raise source.refusal(found)
    return filled


def canonical(plan: Plan) -> bytes:
    """Return JSON with every default filled in, keys sorted, no spaces, UTF-8: the same for the same plan."""
    content = plan.model_dump(mode="json")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(plan: Plan) -> Digest:
    """Return the identity of a plan: the SHA-256 of its canonical bytes."""
    return sha256_hex(canonical(plan))


def from_canonical(data: bytes, name: str = "plan") -> Plan:
    """Return the plan that `canonical` wrote.  Raises BadConfiguration.

    The strategy is not looked up: who receives a plan may not have it, and decides by its own rules what to
    do.  What was approved is the digest of the bytes received, never of a second encoding: a peer of another
    version may know a key more or less.
    """
    if len(data) > _MAX_CANONICAL:
        raise BadConfiguration(f"{name}: {len(data)} bytes long; at most {_MAX_CANONICAL} are allowed")
    try:
        table = json.loads(data.decode())  # `json` would take UTF-16 too, whose digest is another
    except (ValueError, RecursionError):
        raise BadConfiguration(f"{name}: not the canonical JSON of a plan") from None
    if not isinstance(table, dict):
        raise BadConfiguration(f"{name}: not the canonical JSON of a plan")
    return Source(name, table, {}).into(Plan)
