"""All rounds of a run, all runs, all models, however many: an answer holds what fits into one message."""

from dataclasses import replace
from typing import Protocol, TypeVar

from unisono.base.errors import BadConfiguration

from .connection import Answer
from .documents import Document, Models, Round, Run, Runs

D = TypeVar("D", bound=Document)


class ListsRuns(Protocol):
    """What is asked of the connection."""

    def list_runs(self, before: int = 0) -> Answer[Runs]: ...


class ListsModels(Protocol):
    """What is asked of the connection."""

    def list_models(self, run: str, before: int = 0) -> Answer[Models]: ...


class Shows(Protocol):
    """What is asked of the connection."""

    def show_run(self, run: str, first: int = 0, last: int = 0) -> Answer[Run]: ...


def whole(coordinator: Shows, run: str, first: int = 1, last: int = 0) -> Answer[Run]:
    """Return a run with its rounds from `first` to `last` (0: all that there are)."""
    answer = coordinator.show_run(run, first, last)
    raw, rounds = _take(answer, first, last)
    while rounds and rounds[-1].round < (last or answer.value.published):
        page = coordinator.show_run(answer.value.id, rounds[-1].round + 1, last)
        raw_more, more = _take(page, rounds[-1].round + 1, last)
        if not more:
            break
        raw, rounds = raw + raw_more, rounds + more
    value = answer.value.model_copy(update={"rounds": tuple(rounds)})
    return replace(answer, raw={**answer.raw, "rounds": raw}, value=value)


def all_runs(coordinator: ListsRuns) -> Answer[Runs]:
    """Return every run, the newest first."""
    answer = coordinator.list_runs()
    raw, runs = list(_listed(answer, "runs")), list(answer.value.runs)
    while runs and len(runs) < (answer.value.runs_total or 0):
        page = coordinator.list_runs(number_of(runs[-1].id))
        if not page.value.runs:
            break
        raw, runs = raw + _listed(page, "runs"), runs + list(page.value.runs)
    value = answer.value.model_copy(update={"runs": tuple(runs)})
    return replace(answer, raw={**answer.raw, "runs": raw}, value=value)


def all_models(coordinator: ListsModels, run: str) -> Answer[Models]:
    """Return every model that is kept of a run, by round."""
    answer = coordinator.list_models(run)
    raw, models = list(_listed(answer, "models")), list(answer.value.models)
    while models and models[0].round and len(models) < (answer.value.models_total or 0):
        page = coordinator.list_models(answer.value.run, models[0].round)
        if not page.value.models:
            break
        raw, models = _listed(page, "models") + raw, list(page.value.models) + models
    value = answer.value.model_copy(update={"models": tuple(models)})
    return replace(answer, raw={**answer.raw, "models": raw}, value=value)


def number_of(run: str) -> int:
    """Return the number of a run's id: 7 of r-0007."""
    return int(run.rpartition("-")[2])


def _listed(answer: Answer[D], key: str) -> list[object]:
    found = answer.raw.get(key, [])
    return list(found) if isinstance(found, list) else []


def _take(answer: Answer[Run], first: int, last: int) -> tuple[list[object], list[Round]]:
    """Return what was asked for: a coordinator of an earlier version sends everything."""
    raw = answer.raw.get("rounds", [])
    pairs = zip(raw if isinstance(raw, list) else [], answer.value.rounds, strict=True)
    taken = [(r, v) for r, v in pairs if v.round >= first and (not last or v.round <= last)]
    return [r for r, _ in taken], [v for _, v in taken]


def span(text: str) -> tuple[int, int]:
    """Read A:B, A: or :B; 0 stands for the end that is open.  Raises BadConfiguration."""
    first, colon, last = text.partition(":")
    numbers = [
        int(part) if part.isascii() and part.isdigit() else 0 if not part else -1 for part in (first, last)
    ]
    if not colon or min(numbers) < 0 or (numbers[1] and numbers[0] > numbers[1]) or max(numbers) >= 1 << 32:
        raise BadConfiguration(f"--rounds {text}: not a range of rounds\n  give 10:20, 10: or :20")
    return max(numbers[0], 1), numbers[1]
