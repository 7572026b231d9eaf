"""What a check found: one line for a person, with what to do about it."""

from dataclasses import dataclass
from typing import Literal

from unisono.base.errors import Error, Unreachable

Status = Literal["ok", "warning", "failure"]
OK: Status = "ok"
WARNING: Status = "warning"
FAILURE: Status = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was looked at, `words` say how it is, `advice` what to do; `family`: its exit code."""

    what: str
    status: Status
    words: str
    advice: str = ""
    family: type[Error] = Error

    @property
    def failed(self) -> bool:
        return self.status == FAILURE


def ok(what: str, words: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(what, OK, _line(words))


def warning(what: str, words: str, advice: str) -> Finding:
    """Return a finding that will hurt later."""
    return Finding(what, WARNING, _line(words), _line(advice))


def failure(what: str, words: str, advice: str, family: type[Error] = Unreachable) -> Finding:
    """Return a finding that nothing works with."""
    return Finding(what, FAILURE, _line(words), _line(advice), family)


def _line(text: str) -> str:
    """Return one line without escape sequences: some words are a proxy's, or of a stranger's certificate."""
    return "".join(c if c.isprintable() else "?" for c in text.replace("\n", " "))
