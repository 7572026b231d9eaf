"""What `unisono doctor` looks at: the folders that are there, each with its own checks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from unisono.base.clock import Clock
from unisono.base.errors import Error

from .finding import Finding, failure


@dataclass(frozen=True, slots=True)
class Ask:
    """What the person asked for, and the world.  `say` is told what is being waited for."""

    directory: Path
    address: str  # "": the one in the folder
    token: str | None  # the text of a join token
    clock: Clock
    environment: Mapping[str, str]
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that is examined; its checks run as they are taken."""

    kind: str  # site, operator, coordinator, token, address
    name: str
    folder: Path | None
    checks: Iterator[Finding]


def config_failure(what: str, error: Error) -> Finding:
    """Return an error of ours as a finding: its first line says what is wrong, the others what to do."""
    first, *rest = str(error).splitlines() or [error.code]
    advice = "; ".join(line.strip() for line in rest) or "correct it, or restore it from a backup"
    return failure(what, first, advice, type(error))
