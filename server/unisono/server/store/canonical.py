"""JSON in one form only, so that equal values are equal bytes and can be hashed."""

import json
import math
from collections.abc import Mapping


def canonical(value: object) -> str:
    """Write `value` with sorted keys and no spaces.  JSON has no NaN and no infinity: they become null."""
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _plain(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case set() | frozenset():
            return sorted(_plain(inner) for inner in value)  # type: ignore[type-var]
        case _:
            return value
