"""What belongs to a run and is saved elsewhere: its name, its manifest, and the ledger of secure aggregation.

A run's text in the database is written with every step; a ledger of 100 clients has 25 MB, and grows by rows
of its own.  So `encode` leaves this out, and `revive` puts it back after a restart.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unisono.base.errors import Fault
from unisono.base.ids import RunId
from unisono.secagg.server import Outcome, Setup, Stage, restore
from unisono.tensors import Manifest

if TYPE_CHECKING:
    from .phases import Run


_NO_RUN = RunId("")  # until it is loaded


@dataclass(frozen=True, slots=True)
class Aside:
    """Given to the machine with the run."""

    run: RunId = _NO_RUN
    layout: Manifest | None = None
    protected: Stage | None = None  # the protocol's state in this attempt
    earlier: tuple[Outcome, ...] = ()  # what is left of this round's earlier attempts


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the ledger.  The first of an attempt is its setup, all others are records."""

    round: int
    attempt: int
    body: bytes


def revive(run: "Run", name: RunId, layout: Manifest | None, rows: Iterable[Row]) -> "Run":
    """Return the run as it was before the restart.  `rows`: of its present round, in their order."""
    attempts: dict[int, list[bytes]] = {}
    for row in rows:
        attempts.setdefault(row.attempt, []).append(row.body)
    stages = {
        attempt: restore(Setup.decode(first), rest) for attempt, (first, *rest) in sorted(attempts.items())
    }
    present = run.attempt
    earlier = tuple(Outcome.of(stage) for attempt, stage in stages.items() if attempt != present)
    return replace(run, aside=Aside(name, layout, stages.get(present), earlier))


def settled(aside: Aside) -> Aside:
    """Return it when an attempt is over: what is left of it counts for the next one."""
    if aside.protected is None:
        return aside
    return replace(aside, protected=None, earlier=(*aside.earlier, Outcome.of(aside.protected)))


def protected(run: "Run") -> Stage:
    """Return the protocol's state.  Raises Fault where there is none."""
    if run.aside.protected is None:
        raise Fault(f"run {run.aside.run} is in no attempt of secure aggregation")
    return run.aside.protected
