"""What a step returns, and the refusals that every stage words alike."""

from dataclasses import dataclass

from unisono.base.errors import WrongPhase

from .effects import Effect
from .events import Aggregated, Event, Failure, TaskFailed, Uploaded
from .facts import Fact
from .phases import Ended, InRound, Run


@dataclass(frozen=True, slots=True)
class Step:
    """Save `run`, `facts` and the effects still to do in one transaction; only then carry out `effects`."""

    run: Run
    effects: tuple[Effect, ...] = ()
    facts: tuple[Fact, ...] = ()


def state_of(run: Run) -> str:
    """Say where a run is, to end the sentence "... is not accepted while the round is"."""
    match run.stage:
        case InRound(round=number, attempt=attempt, phase=phase):
            return f"{number}, attempt {attempt}, {phase.kind}"
        case Ended(state, reason):
            return f"over: the run has {state} ({reason})"
        case stage:
            return stage.kind


def wrong_phase(run: Run, event: Event) -> WrongPhase:
    """Return the refusal of an event that has no place in the run's present stage and phase."""
    return WrongPhase(state_of(run), type(event).__name__)


def check_attempt(run: Run, stage: InRound, event: Uploaded | TaskFailed | Aggregated | Failure) -> None:
    """Raise WrongPhase, naming both, if the event is about another round or attempt than the present one."""
    if (event.round, event.attempt) != (stage.round, stage.attempt):
        name = f"{type(event).__name__} for round {event.round}, attempt {event.attempt}"
        raise WrongPhase(state_of(run), name)
