"""JSON as our formats allow it: UTF-8, no key twice, no NaN, no fractions of a digit lost on the way.

`json.loads` alone takes the last of two equal keys (two readers of one file may then see two models),
guesses encodings, and leaves a RecursionError or a 4301-digit ValueError to the caller.
"""

import json
from collections.abc import Iterable

from unisono.base.errors import BadMessage

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def parse_json(data: bytes, what: str) -> Json:
    """Return the value in `data`.  Raises BadMessage that begins with `what` ("manifest", "header")."""
    try:
        text = data.decode()
        value: Json = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)[:200]
        raise BadMessage(f"{what} is not valid JSON: {reason}") from None
    return value


def write_json(value: Json) -> bytes:
    """Return the one canonical form: as safetensors writes it, no spaces, keys in the order given.

    Raises BadMessage for text that is no Unicode (a lone surrogate).
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as problem:
        raise BadMessage(f"name with the unpaired surrogate {problem.object[problem.start]!r}") from None


def _once(pairs: Iterable[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r:.80} appears twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")
