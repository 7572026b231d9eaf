"""What a saved step means for the metrics: rounds, attempts, phases, and who was left out of them."""

from dataclasses import dataclass

from unisono.base.ids import ClientName, RunId
from unisono.server.rounds import (
    Aggregating,
    AttemptFailed,
    Collecting,
    Fact,
    Initialising,
    InRound,
    Lost,
    RoundPublished,
    Run,
    RunEnded,
    Securing,
    TaskFailed,
    Waiting,
)
from unisono.server.store import Change, Store
from unisono.telemetry.meters import Meters

from .hall import Hall


@dataclass(frozen=True, slots=True)
class Metered:
    """The store as a driver needs it, with a clock beside it."""

    store: Store
    meters: Meters

    def save(self, run: RunId, change: Change) -> tuple[int, ...]:
        """Write all of `change` in one transaction, measure that, and count who is left out by it."""
        with self.meters.saving():
            numbers = self.store.save(run, change)
        for event in change.events:
            match event:
                case Lost(client) if _leaves_out(change.run, client):
                    self.meters.update("left_out", "lost")
                case TaskFailed(client) if _leaves_out(change.run, client):
                    self.meters.update("left_out", "failed")
                case _:
                    pass
        return numbers


def _leaves_out(run: Run, client: ClientName) -> bool:
    """Tell whether a round goes on without a client: not before the first, nor if its update is here."""
    match run.stage:
        case Waiting() | Initialising():
            return False
        case InRound(phase=Collecting() | Securing() | Aggregating() as phase):
            return client not in dict(phase.updates)
        case _:
            return True


def began(hall: Hall, run: RunId, state: Run) -> None:
    """Note the phase in which a run is found at the start."""
    hall.phases[run] = phase_of(state), hall.clock.ticks()


def tally(hall: Hall, run: RunId, before: Run, after: Run, facts: tuple[Fact, ...]) -> None:
    """Count what a saved step brought.  Cheap: it runs on the event loop, before anybody is answered."""
    phase, since = hall.phases.get(run, (phase_of(before), hall.clock.ticks()))
    if (now := phase_of(after)) != phase or _attempt(before) != _attempt(after):
        ticks = hall.clock.ticks()
        hall.meters.phase_left(phase, ticks - since)
        hall.phases[run] = now, ticks
    for fact in facts:
        match fact:
            case RoundPublished(seconds=seconds):
                hall.meters.round_published(seconds)
            case AttemptFailed():
                hall.meters.attempt_failed()
            case RunEnded(state=state):
                hall.meters.run_ended(state)
            case _:
                pass


def phase_of(run: Run) -> str:
    """Return one word for where a run is: its stage, within a round the phase, under secagg the leg."""
    stage = run.stage
    if not isinstance(stage, InRound):
        return stage.kind
    return stage.phase.leg if isinstance(stage.phase, Securing) else stage.phase.kind


def _attempt(run: Run) -> tuple[int, int]:
    stage = run.stage
    return (stage.round, stage.attempt) if isinstance(stage, InRound) else (run.round, 0)
