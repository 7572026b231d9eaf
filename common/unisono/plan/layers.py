"""Settings of a process: flags > environment > TOML file > defaults; an error names which of them is wrong.

pydantic-settings does the merging but not the rest: its sources read `os.environ` themselves, variables are
text, so that a file must then be allowed `port = "8443"` too, and a mistake does not know where it was made.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ValidationError

from unisono.base.errors import BadConfiguration
from unisono.base.units import seconds

from .mistakes import Mistake, mistakes, shown
from .reading import Source, load, refusal

PREFIX = "UNISONO_"

M = TypeVar("M", bound=BaseModel)


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return seconds(value)
    except BadConfiguration:
        raise ValueError(
            f'must be a duration such as "90s", "15m", "24h" or "30d", not {shown(value)}'
        ) from None


Duration = Annotated[float, BeforeValidator(_duration)]  # written "30d", held in seconds


@dataclass(frozen=True, slots=True)
class Layers:
    """Where settings come from, strongest last to be named: a file, the environment, the command line.

    Variables that are not ours, or name no setting, are left alone: containers set all kinds of them.
    A flag of None was not given.  A table given as a flag (tasks) adds to the file's table.
    """

    data: bytes = b""
    name: str = "configuration"
    environment: Mapping[str, str] | None = None
    flags: Mapping[str, object] | None = None

    def into(self, model: type[M]) -> M:
        """Return the merged settings as `model`.  Raises BadConfiguration."""
        source = load(self.data, self.name)
        flags = {key: value for key, value in (self.flags or {}).items() if value is not None}
        variables = _variables(model, self.environment or {})
        merged = dict(source.table) | variables
        for key, value in flags.items():
            below = merged.get(key)
            if isinstance(below, dict) and isinstance(value, Mapping):
                merged[key] = {**below, **value}
            else:
                merged[key] = value
        try:
            return model.model_validate(merged)
        except ValidationError as error:
            raise _refusal(source, mistakes(error, model), flags, variables) from None


def _refusal(
    source: Source, found: list[Mistake], flags: Mapping[str, object], variables: Mapping[str, object]
) -> BadConfiguration:
    first = found[0]
    key = str(first.loc[0]) if first.loc else ""
    if key in flags:
        option = f"--{key.replace('_', '-')}"
        return refusal("", Mistake(first.loc, option, first.what, first.hint), "", len(found) - 1)
    if key in variables:
        variable = PREFIX + key.upper()
        return refusal(
            "environment", Mistake(first.loc, variable, first.what, first.hint), "", len(found) - 1
        )
    return source.refusal(found)


def _variables(model: type[BaseModel], environment: Mapping[str, str]) -> dict[str, object]:
    """Return the settings that the environment names.  Tables are for files and flags."""
    found: dict[str, object] = {}
    for key, field in model.model_fields.items():
        text = environment.get(PREFIX + key.upper())
        if text is not None:
            found[key] = _value(text, field.annotation)
    return found


def _value(text: str, kind: object) -> object:
    """Read a variable: text as it is, an array at its commas, numbers and true/false as TOML writes them."""
    kinds = (kind, *get_args(kind))
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if str in kinds:
        return text
    try:
        value = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return (
        value["value"]
        if value.keys() == {"value"} and isinstance(value["value"], bool | int | float)
        else text
    )
