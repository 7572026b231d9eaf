"""What a step returns, and the refusals that every stage words alike."""

from dataclasses import dataclass

from unisono.base.errors import WrongPhase

from .aside import Row
from .effects import Effect
from .events import Aggregated, Event, Failure, Faulted, NotOpened, Said, TaskFailed, Uploaded
from .facts import Fact
from .phases import Ended, InRound, Run, Securing


@dataclass(frozen=True, slots=True)
class Step:
    """Save `run`, `facts`, `rows` and the effects still to do in one transaction; then do `effects`."""

    run: Run
    effects: tuple[Effect, ...] = ()
    facts: tuple[Fact, ...] = ()
    rows: tuple[Row, ...] = ()  # of the ledger of secure aggregation


def state_of(run: Run) -> str:
    """Say where a run is, to end the sentence "... is not accepted while the round is"."""
    match run.stage:
        case InRound(round=number, attempt=attempt, phase=phase):
            where = phase.leg if isinstance(phase, Securing) else phase.kind
            return f"{number}, attempt {attempt}, {where}"
        case Ended(state, reason):
            return f"over: the run has {state} ({reason})"
        case stage:
            return stage.kind


def wrong_phase(run: Run, event: Event) -> WrongPhase:
    """Return the refusal of an event that has no place in the run's present stage and phase."""
    return WrongPhase(state_of(run), type(event).__name__)


def check_attempt(
    run: Run,
    stage: InRound,
    event: Uploaded | TaskFailed | Said | Faulted | NotOpened | Aggregated | Failure,
) -> None:
    """Raise WrongPhase, naming both, if the event is about another round or attempt than the present one."""
    if (event.round, event.attempt) != (stage.round, stage.attempt):
        name = f"{type(event).__name__} for round {event.round}, attempt {event.attempt}"
        raise WrongPhase(state_of(run), name)
