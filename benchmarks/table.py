"""The table of goals, as markdown."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One case: what it may cost at most, and what it costs here."""

    case: str
    goal: tuple[float, str]
    found: float


def markdown(rows: Sequence[Row], cases: str = "case, `sealed`") -> str:
    """Return the table; a goal that is missed is marked, nothing fails."""
    lines = [f"| {cases} | at most | measured | |", "|---|---|---|---|"]
    for row in rows:
        most, unit = row.goal
        mark = "" if row.found <= most else "missed"
        lines.append(f"| {row.case} | {most:g} {unit} | {row.found:.3g} {unit} | {mark} |")
    return "\n".join(lines)
