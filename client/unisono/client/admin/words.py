"""Documents in words for people: times, percentages, columns.  Pure; nothing here asks or prints."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from unisono.base.units import show_seconds


def stamp(wall: float) -> str:
    """Write a wall time as logs do: 2026-11-21T10:04:11Z."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(wall: float | None) -> str:
    """Write a date, or a dash where there is none."""
    return "-" if wall is None else datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d")


def ago(wall: float | None, now: float) -> str:
    """Write how long ago something was."""
    return "never" if wall is None else f"{show_seconds(max(0.0, now - wall))} ago"


def short(digest: str | None) -> str:
    """Write enough of a digest to recognise it."""
    return digest[:12] if digest else "-"


def measured(metrics: Mapping[str, float] | None) -> str:
    """Write metrics in a stable order, loss first: "loss 0.412  accuracy 0.886"."""
    names = sorted(metrics or {}, key=lambda name: (name != "loss", name))
    return "  ".join(f"{name} {(metrics or {})[name]:.4g}" for name in names)


def columns(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Align rows as columns, two spaces between; without box, so that a pipe can be cut and grepped.

    A cell stays in its row, whoever wrote it: an audit log may be somebody else's.
    """
    table = [
        [_plain(str(cell)) for cell in row] for row in ([head] if head else []) + [list(r) for r in rows]
    ]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def _plain(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
