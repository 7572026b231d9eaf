"""What is wrong with a file, in words for the person who wrote it: at most three lines (UX rule 6).

pydantic says "Input should be a valid integer"; a person wants the file, the section and key, the line, what
was written there, and the key or value that was probably meant.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "tuple_type": 'an array such as ["a", "b"]',
    "list_type": 'an array such as ["a", "b"]',
    "dict_type": "a table",
    "model_type": "a table",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: `where` "[rounds] count", `what` "must be at least 1, not 0", `hint` or ""."""

    loc: Location
    where: str
    what: str
    hint: str = ""


def mistakes(
    error: ValidationError, model: type[BaseModel], section: str = "", beside: Sequence[str] = ()
) -> list[Mistake]:
    """Return what pydantic found; unknown keys first, because a typo also makes its key "missing".

    Args:
        error: what `model` said of a table.
        model: the model of the file or, with `section`, of the table in that section.
        section: where in the file the table stands.
        beside: keys of that section which belong to another model.

    """
    found = error.errors(include_url=False)
    found.sort(key=lambda one: one["type"] != "extra_forbidden")
    told = [_mistake(one, model, beside) for one in found]
    return [_moved(one, section) for one in told] if section else told


def _moved(one: Mistake, section: str) -> Mistake:
    loc = (section, *one.loc)
    return Mistake(loc, where(loc), one.what, one.hint)


def where(loc: Location, table: bool = False) -> str:
    """Write a location as in the file: `task`, `[rounds] count`, `[rounds]`, `[tasks] x, item 2`."""
    names = [shown_key(part) for part in loc if isinstance(part, str)]
    items = "".join(f", item {part + 1}" for part in loc if isinstance(part, int))
    if table or not names:
        return f"[{'.'.join(names)}]" + items
    section = f"[{'.'.join(names[:-1])}] " if len(names) > 1 else ""
    return section + names[-1] + items


def shown(value: object) -> str:
    """Write a value as TOML would, cut to what fits a line; nothing in it can break the line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**30 else f"a number of {value.bit_length()} bits"
        case float():
            return repr(value)
        case str():
            return f'"{_clean(value)}"'
        case Mapping():
            return "a table"
        case list() | tuple():
            return "an array"
        case _:
            return "a date or time"


def shown_key(key: str) -> str:
    """Write a key that a person chose, as `shown` does."""
    return _clean(key) or '""'


def closest(word: object, known: Iterable[str]) -> str:
    """Return the known word that was probably meant, or ""."""
    near = (
        difflib.get_close_matches(str(word)[:80].lower(), list(known), n=1) if isinstance(word, str) else []
    )
    return near[0] if near else ""


def unknown_key(loc: Location, known: Sequence[str], *, table: bool = False) -> Mistake:
    """Say that the last part of `loc` is not a key (or section, if `table`) that exists there."""
    near = closest(loc[-1], known)
    kind = "section" if table else "key"
    name = f"[{near}]" if table else f'"{near}"'
    hint = f"did you mean {name}?" if near else f"known here: {', '.join(known)}" if known else ""
    return Mistake(loc, where(loc, table), f"is not a known {kind}", hint)


def _mistake(one: ErrorDetails, model: type[BaseModel], beside: Sequence[str]) -> Mistake:
    loc, kind, given = tuple(p for p in one["loc"] if p != "[key]"), one["type"], one["input"]
    if kind == "extra_forbidden":
        return _unknown(loc, given, model, beside)
    if kind == "missing":
        return Mistake(loc, where(loc), "is missing", f"add {loc[-1]} = ..." if loc else "")
    what, hint = _what(one)
    table = kind in {"model_type", "dict_type"} or isinstance(given, Mapping)
    return Mistake(loc, where(loc, table), what, hint)


def _what(one: ErrorDetails) -> tuple[str, str]:
    kind, given, context = one["type"], one["input"], one.get("ctx", {})
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {shown(given)}", ""
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"must be {words} {context[key]}, not {shown(given)}", ""
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", '"')
        near = closest(given, [word.strip('"') for word in allowed.replace(" or ", ", ").split(", ")])
        return f"must be {allowed}, not {shown(given)}", f'did you mean "{near}"?' if near else ""
    if kind == "too_short":
        return f"must hold at least {context['min_length']}", ""
    if kind == "value_error":
        return str(context["error"]), ""
    return f"is not valid: {_clean(one['msg'], 80)}, not {shown(given)}", ""


def _unknown(loc: Location, given: object, model: type[BaseModel], beside: Sequence[str]) -> Mistake:
    here = inside(model, loc[:-1])
    keys = list(here.model_fields) if here else []
    tables = [key for key in keys if here and is_table(here, key)]
    if isinstance(given, Mapping) and len(loc) == 1 and tables:
        return unknown_key(loc, tables, table=True)
    plain = [*beside, *(key for key in keys if key not in tables)]
    home = _home(str(loc[-1]), model)
    if home and not closest(loc[-1], plain):
        return Mistake(loc, where(loc), "is not a known key", f"it belongs in [{home}]")
    return unknown_key(loc, plain)


def inside(model: type[BaseModel], loc: Location) -> type[BaseModel] | None:
    """Return the model of the section at `loc`, or None where there is none."""
    here: type[BaseModel] | None = model
    for part in loc:
        field = here.model_fields.get(str(part)) if here else None
        kind = field.annotation if field else None
        here = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return here


def is_table(model: type[BaseModel], key: str) -> bool:
    """Tell whether a key of `model` is a section."""
    kind = model.model_fields[key].annotation
    return inside(model, (key,)) is not None or get_origin(kind) is dict


def _home(key: str, model: type[BaseModel]) -> str:
    """Return the one section that knows `key`, or ""."""
    homes = [
        name for name in model.model_fields if key in getattr(inside(model, (name,)), "model_fields", {})
    ]
    return homes[0] if len(homes) == 1 else ""


def _clean(text: str, longest: int = 40) -> str:
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
