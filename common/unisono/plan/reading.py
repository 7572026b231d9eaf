"""Read a TOML file of ours into its model, or say in at most three lines what is wrong with it and where.

The plan, `policy.toml` and both configurations come through here, so that a typo reads the same everywhere.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from unisono.base.errors import BadConfiguration

from .lines import Path, locate
from .mistakes import Location, Mistake, mistakes

MAX_BYTES = 256 * 1024  # a file written by a person
MAX_DOTS = 200  # in one key: `tomllib` takes a minute for a key of 50 000 parts

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file that still knows its name and where its keys stand."""

    name: str
    table: Mapping[str, object]
    lines: Mapping[Path, int]

    def into(self, model: type[M]) -> M:
        """Return the table as `model`.  Raises BadConfiguration."""
        try:
            return model.model_validate(dict(self.table))
        except ValidationError as error:
            raise self.refusal(mistakes(error, model)) from None  # pydantic's text would only repeat it

    def refusal(self, found: Sequence[Mistake]) -> BadConfiguration:
        """Return the error that tells the first of the mistakes and how many follow."""
        first, line = found[0], self.line(found[0].loc)
        return refusal(self.name, first, f"line {line}" if line else "", len(found) - 1)

    def line(self, loc: Location) -> int | None:
        """Return the line of a key; of the section around it where the key itself is not written."""
        path = tuple(part for part in loc if isinstance(part, str))
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def read_toml(data: bytes, name: str, model: type[M]) -> M:
    """Return the file called `name` with content `data` as `model`.  Raises BadConfiguration."""
    return load(data, name).into(model)


def load(data: bytes, name: str) -> Source:
    """Parse UTF-8 TOML of at most 256 KiB.  Raises BadConfiguration that names the line."""
    if len(data) > MAX_BYTES:
        raise BadConfiguration(f"{name}: {len(data)} bytes long; at most {MAX_BYTES} are allowed")
    try:
        text = data.decode("utf-8-sig")  # some editors put the mark there
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadConfiguration(f"{name}: not UTF-8 text\n  line {line}; save the file as UTF-8") from None
    _few_dots(text, name)
    try:
        return Source(name, tomllib.loads(text), locate(text))
    except RecursionError:
        raise BadConfiguration(f"{name}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and what int() says of a number with 5000 digits
        raise BadConfiguration(f"{name}: not valid TOML: {_syntax(str(error), text)}") from None


def _few_dots(text: str, name: str) -> None:
    for stretch in re.finditer(r"[^,=\n]+", text):
        if stretch[0].count(".") > MAX_DOTS:
            line = text.count("\n", 0, stretch.start()) + 1
            raise BadConfiguration(f"{name}: more than {MAX_DOTS} dots in one key\n  line {line}")


def refusal(name: str, mistake: Mistake, place: str, more: int = 0) -> BadConfiguration:
    """Write `plan.toml: [rounds] count must be at least 1, not 0`, the place and the hint below it."""
    second = "; ".join(part for part in (place, mistake.hint) if part)
    third = f"{more} more mistake{'s' if more > 1 else ''} after this one" if more else ""
    head = f"{name}: {mistake.where} {mistake.what}" if name else f"{mistake.where} {mistake.what}"
    return BadConfiguration("\n  ".join(part for part in (head, second, third) if part))


def _syntax(message: str, text: str) -> str:
    """Put tomllib's "(at line 3, column 5)" onto a second line; its "(at end of document)" gets a number."""
    found = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if found is None:
        return "".join(c if c.isprintable() else "?" for c in message[:120])
    what, line, column = found[1], found[2] or str(text.rstrip("\n").count("\n") + 1), found[3]
    what = "".join(c if c.isprintable() else "?" for c in what[:120])
    return f"{what[:1].lower()}{what[1:]}\n  line {line}" + (f", column {column}" if column else "")
