"""What a client should do now, and for whom and until when the run waits."""

from dataclasses import dataclass
from typing import Literal

from unisono.base.ids import ClientName, Digest
from unisono.plan import Plan
from unisono.secagg.server import Advertising, Agreeing, Closing, Revealing, Sharing, Stage, Uploading

from .aside import protected
from .phases import Announced, Collecting, Ended, Initialising, InRound, Run, Securing, Waiting


@dataclass(frozen=True, slots=True)
class ToConsider:
    """Look at the plan, make the model, then join or decline."""


@dataclass(frozen=True, slots=True)
class ToSendModel:
    """Send the initial model that was announced."""

    model: Digest


@dataclass(frozen=True, slots=True)
class ToWork:
    """Train (or only evaluate) from `model` and upload an update laid out for `cohort` clients."""

    round: int
    attempt: int
    what: Literal["train", "evaluate"]
    model: Digest
    cohort: int


Told = Literal["invitation", "roster", "deal", "survivors", "quorum", "closing"]


@dataclass(frozen=True, slots=True)
class ToSecure:
    """Take part in an attempt under secure aggregation: do what `told` asks for, once."""

    round: int
    attempt: int
    what: Literal["train", "evaluate"]
    model: Digest
    told: Told


Duty = ToConsider | ToSendModel | ToWork | ToSecure


def duty(plan: Plan, run: Run, client: ClientName) -> Duty | None:
    """Return what a client that offers the task should do now, or None: wait."""
    match run.stage:
        case Ended():
            return None
        case Waiting(joined=joined):
            asked = client not in dict(joined) and client not in dict(run.declined)
            return ToConsider() if asked else None
        case Initialising(source, model) if source == client:
            return ToSendModel(model)
        case InRound(what, number, attempt, _, Collecting(cohort, waiting)) if client in waiting:
            return ToWork(number, attempt, what, run.latest, len(cohort))
        case InRound(what, number, attempt, _, Securing()):
            told = _told(protected(run), client)
            return ToSecure(number, attempt, what, run.latest, told) if told else None
        case _:
            new = client not in run.roster and client not in dict(run.declined)
            return ToConsider() if new and plan.cohort.roster == "open" else None


def expects(run: Run) -> frozenset[ClientName]:
    """Return the clients whose progress is waited for; the runtime reports who makes none as `Lost`."""
    match run.stage:
        case Initialising(source):
            return frozenset({source})
        case InRound(phase=Securing(waiting=waiting, leg="agreeing" | "revealing")):
            return waiting | _back(run)
        case InRound(phase=Collecting(waiting=waiting) | Securing(waiting=waiting)):
            return waiting
        case _:
            return frozenset()


def _back(run: Run) -> frozenset[ClientName]:
    """Return the survivors that were lost, have come back, and have not said what opens the sum.

    The protocol goes on without them as soon as it can; until then nobody else may do.
    """
    lost = {client for client, code in protected(run).book.left_out if code == "lost"}
    return unheard(run) & lost - run.away


def unheard(run: Run) -> frozenset[ClientName]:
    """Return all survivors whose word is not here, in the legs in which only survivors are asked."""
    stage, book = protected(run), protected(run).book
    match stage:
        case Agreeing():
            said = {number for number, _ in book.agreements}
        case Revealing():
            said = {number for number, _ in book.answers}
        case _:
            return frozenset()
    return frozenset(book.roster.names(tuple(number for number in book.survivors if number not in said)))


def next_deadline(run: Run) -> float | None:
    """Return when a Tick is due, on the run's own clock."""
    match run.stage:
        case Waiting(settled=settled) as stage:
            return stage.until if settled is None else min(stage.until, settled)
        case InRound(phase=Announced(deadline)):
            return deadline
        case InRound(phase=Collecting(grace=grace)):
            return grace
        case InRound(phase=Securing(deadline=deadline)):
            return deadline
        case _:
            return None


def _told(stage: Stage, client: ClientName) -> Told | None:
    """Return which message `stage.message_for` has for a client, without making it."""
    book = stage.book
    number = book.roster.numbers.get(client) if book.frozen is not None else None
    out = book.is_out(client)
    match stage:
        case Advertising():
            return "invitation" if any(m.name == client for m in book.setup.members) and not out else None
        case Sharing():
            return "roster" if number is not None and not out else None
        case Uploading():
            return "deal" if number in book.u1 and not out else None
        case Agreeing():
            return "survivors" if number in book.survivors else None
        case Revealing():
            if number not in book.survivors:
                return None
            return "quorum" if number in dict(book.agreements) else "survivors"
        case Closing():
            return "closing" if client in stage.waiting_for() else None
        case _:
            return None
