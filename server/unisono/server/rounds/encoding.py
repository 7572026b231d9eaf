"""Runs and effects as JSON text, for the database.

The text is canonical (sets are sorted, no spaces), so equal runs have equal rows.  A key that we do not know
is refused: it was written by a newer version, and going on without it would lose something.
"""

import json
from dataclasses import fields, is_dataclass
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from unisono.base.errors import Fault

from .effects import Effect
from .phases import Run

_RUN: TypeAdapter[Run] = TypeAdapter(Run)
_EFFECT: TypeAdapter[Effect] = TypeAdapter(Effect)
T = TypeVar("T")
_NOT_SAVED = "aside"  # of a run


def encode(run: Run) -> str:
    """Return the text that `decode` takes."""
    return _write(run)


def decode(text: str) -> Run:
    """Return the run.  Raises Fault: the text comes from our own database."""
    return _read(_RUN, text, "run")


def encode_effect(effect: Effect) -> str:
    """Return the text that `decode_effect` takes."""
    return _write(effect)


def decode_effect(text: str) -> Effect:
    """Return the effect.  Raises Fault."""
    return _read(_EFFECT, text, "effect")


def _write(value: object) -> str:
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value) if f.name != _NOT_SAVED}
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in a saved run")


def _read(adapter: TypeAdapter[T], text: str, what: str) -> T:
    try:
        value = adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise Fault(f"a saved {what} cannot be read: {where}: {first['msg']}") from None
    if stray := _stray(json.loads(text), json.loads(_write(value))):
        raise Fault(f"a saved {what} holds the unknown key '{stray}': was it written by a newer version?")
    return value


def _stray(given: object, known: object) -> str:
    """Return a key of `given` that `known`, what we made of it, has not."""
    match given, known:
        case dict(), dict():
            return next((k for k in given if k not in known or _stray(given[k], known[k])), "")
        case list(), list():
            return next(filter(None, map(_stray, given, known)), "")
        case _:
            return ""
