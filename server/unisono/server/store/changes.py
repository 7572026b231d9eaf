"""What the driver gives to be saved, and what it gets back after a crash."""

from dataclasses import dataclass

from unisono.server.rounds import Effect, Event, Fact, Row, Run


@dataclass(frozen=True, slots=True)
class Change:
    """All that one batch of events did to a run; saved whole before anything is answered or done."""

    run: Run
    now: float  # on the run's clock
    wall: float
    effects: tuple[Effect, ...] = ()  # ordered by the batch
    done: tuple[int, ...] = ()  # numbers of effects carried out
    facts: tuple[Fact, ...] = ()
    rows: tuple[Row, ...] = ()  # of the ledger of secure aggregation
    events: tuple[Event, ...] = ()  # accepted ones
    traffic: tuple[tuple[int, int, int], ...] = ()  # round, bytes in, bytes out since the last save


@dataclass(frozen=True, slots=True)
class Stored:
    """A run as it was saved last."""

    plan: bytes  # canonical
    run: Run
    now: float  # the run's clock stood here
    todo: tuple[tuple[int, Effect], ...]  # ordered, not known to be done; by their numbers
    rows: tuple[Row, ...] = ()  # of the ledger, of the round that is going on
