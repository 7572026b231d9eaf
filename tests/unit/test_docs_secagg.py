"""What SECURE_AGGREGATION.md says of numbers and codes is what the code does."""

import re
from pathlib import Path
from typing import TypeGuard, TypeVar

from unisono.base.errors import Error
from unisono.plan.thresholds import default_colluding
from unisono.secagg.client import refusals
from unisono.secagg.client.refusals import Refusal
from unisono.secagg.server import faults
from unisono.secagg.shared.terms import Terms

E = TypeVar("E", bound=Error)
PAGE = (Path(__file__).parents[2] / "docs" / "SECURE_AGGREGATION.md").read_text(encoding="utf-8")


def table(head: str) -> list[str]:
    """Return the rows below the line that begins with `head`."""
    rows = PAGE[PAGE.index(f"\n{head}") + 1 :].split("\n\n")[0].splitlines()
    return rows[2:]


def cell(n: int, c: int) -> str:
    if c > n - 2:
        return "impossible"
    terms = Terms.of(n, c)
    t, m = terms.threshold, terms.minimum
    return f"t = m = {t}; {n - m}" if t == m else f"t = {t}, m = {m}; {n - m}, then {n - t}"


def test_thresholds_and_drop_outs() -> None:
    rows = [
        f"| {n} | {cell(n, 0)} | {cell(n, 1)} | c = {default_colluding(n)}: {cell(n, default_colluding(n))} |"
        for n in (3, 4, 5, 6, 8, 10, 16, 20, 50, 100)
    ]
    assert table("| clients |") == rows, "\n".join(rows)


def test_every_code_of_a_site_is_explained() -> None:
    told = set(re.findall(r"`(\w+)`", " ".join(row.split(" | ")[0] for row in table("| code at a site |"))))
    known = {kind.code for kind in vars(refusals).values() if _is_own(kind, Refusal)}
    assert told == known - {"budget_spent"}  # without a privacy budget nothing spends one


def test_every_code_of_the_coordinator_is_explained() -> None:
    rows = table("| code at the coordinator |")
    told = set(re.findall(r"`(\w+)`", " ".join(row.split(" | ")[0] for row in rows)))
    own = [kind for kind in vars(faults).values() if _is_own(kind, Error) and kind is not faults.Blamed]
    known = {kind.code for kind in own if kind.__module__ == faults.__name__}
    assert told == known


def test_what_ends_a_run_at_a_site_is_marked() -> None:
    row = next(row for row in table("| code at a site |") if "has left the run" in row)
    stopping = {kind.code for kind in vars(refusals).values() if _is_own(kind, Refusal) and kind.stops_run}
    assert set(re.findall(r"`(\w+)`", row)) == stopping


def _is_own(kind: object, family: type[E]) -> TypeGuard[type[E]]:
    return isinstance(kind, type) and issubclass(kind, family) and kind is not family
