"""How names, counts and reasons are put into sentences; lists are cut, since a cohort may have thousands."""

from collections.abc import Iterable

from unisono.base.ids import ClientName, Digest

from .phases import Why

_MOST = 5


def listed(names: Iterable[ClientName]) -> str:
    """Return "hospital-a, hospital-b" in alphabetical order, or the first few "and 12 more"."""
    return _joined(sorted(names), ", ")


def reasons(why: Iterable[Why]) -> str:
    """Return "hospital-b: silent for 60 s; hospital-c: ..." in alphabetical order, or the first few."""
    return _joined([f"{client}: {reason}" for client, reason in sorted(why)], "; ")


def clients(count: int) -> str:
    """Return "1 client" or "2 clients"."""
    return f"{count} client{'' if count == 1 else 's'}"


def short(digest: Digest | None) -> str:
    """Return enough of a digest for people to tell two apart."""
    return "no model" if digest is None else digest[:12]


def cut(parts: list[str]) -> list[str]:
    """Return the first few, the last of them with "and 12 more"."""
    more = len(parts) - _MOST
    return [*parts[: _MOST - 1], f"{parts[_MOST - 1]} and {more} more"] if more > 0 else parts


def _joined(parts: list[str], separator: str) -> str:
    return separator.join(cut(parts))
