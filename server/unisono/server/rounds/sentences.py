"""What is happening, for whom the run waits, and how long still: one line for people (UX rule 1)."""

from collections.abc import Mapping

from unisono.base.ids import ClientName
from unisono.base.units import show_seconds
from unisono.plan import Plan

from .attempts import needed, present
from .duties import expects, unheard
from .phases import Aggregating, Announced, Collecting, Ended, Initialising, InRound, Run, Securing, Waiting
from .waiting import enough, unanswered
from .wording import clients, cut, listed

_NOBODY: Mapping[ClientName, float] = {}
_NOTHING: Mapping[ClientName, str] = {}


def waiting_sentence(
    plan: Plan,
    run: Run,
    now: float,
    idle_left: Mapping[ClientName, float] = _NOBODY,
    notes: Mapping[ClientName, str] = _NOTHING,
) -> str:
    """Return one line without a full stop.

    `idle_left` holds the seconds that each expected client may still go without progress; where the run
    has no deadline and it is empty, no time is named.  `notes` says how expected clients limit themselves
    ("sends at most 2 MB/s").
    """
    noted = [f"{client} {notes[client]}" for client in expects(run) if notes.get(client)]
    return "; ".join((_sentence(plan, run, now, idle_left), *cut(sorted(noted))))


def _sentence(plan: Plan, run: Run, now: float, idle_left: Mapping[ClientName, float]) -> str:
    match run.stage:
        case Waiting() as stage:
            return _waiting(plan, run, stage, now)
        case Initialising(source=source):
            return f"waiting for {source} to send the initial model{_silence({source}, idle_left)}"
        case InRound() as stage:
            return _in_round(plan, run, stage, now, idle_left)
        case Ended(state, reason):
            return f"{state}: {reason}"


def _waiting(plan: Plan, run: Run, stage: Waiting, now: float) -> str:
    joined, wanted = len(stage.joined), enough(plan, len(stage.joined))
    left, silent = _left(stage.until, now), unanswered(run, stage) - stage.looking
    look = f"an answer from {listed(stage.looking)} (somebody there has to look at the plan)"
    if joined < wanted:
        more, verb = _more(wanted - joined), "offers" if wanted - joined == 1 else "offer"
        asked = f"; no answer yet from {listed(silent)}" if silent else ""
        asked = f"; for {look}{asked}" if stage.looking else asked
        return f"waiting for {more} ({joined}/{wanted}) that {verb} task '{plan.task}'{asked}, {left}"
    if stage.looking:
        others = f" and of {listed(silent)}" if silent else ""
        return f"waiting for {look}{others} ({joined} joined), {left}"
    if silent:
        return f"waiting for the answer of {listed(silent)} ({joined} joined), {left}"
    settled = stage.deadline if stage.settled is None else stage.settled
    return (
        f"waiting for further clients that offer task '{plan.task}' ({joined} joined), {_left(settled, now)}"
    )


def _in_round(plan: Plan, run: Run, stage: InRound, now: float, idle_left: Mapping[ClientName, float]) -> str:
    name = f"round {stage.round}" if stage.what == "train" else "closing evaluation"
    name += f", attempt {stage.attempt}" if stage.attempt > 1 else ""
    match stage.phase:
        case Announced(deadline):
            here, wanted = len(present(run)), needed(plan, run)
            away = f": {listed(run.away)} away" if run.away else ""
            more = _more(wanted - here)
            return f"{name}: waiting for {more} ({here}/{wanted}){away}, {_left(deadline, now)}"
        case Collecting(cohort, waiting, updates, grace=grace):
            work = "updates" if stage.what == "train" else "evaluations"
            left = _silence(waiting, idle_left) if grace is None else f", {_left(grace, now)}"
            return f"{name}: {len(updates)} of {len(cohort)} {work}, waiting for {listed(waiting)}{left}"
        case Securing() as phase:
            return f"{name}: {_securing(run, stage, phase, now, idle_left)}"
        case Aggregating(updates=updates):
            return f"{name}: adding up what {clients(len(updates))} sent"


_AWAITED = {
    "advertising": "keys for secure aggregation",
    "sharing": "secret shares",
    "agreeing": "signatures on who counts",
    "revealing": "what opens the sum",
    "closing": "signatures that the failed attempt stays closed",
}


def _securing(
    run: Run, stage: InRound, phase: Securing, now: float, idle_left: Mapping[ClientName, float]
) -> str:
    if phase.leg == "opening":
        return f"opening the sum of what {clients(len(phase.updates))} sent"
    expected = expects(run)
    left = _silence(expected, idle_left) if phase.deadline is None else f", {_left(phase.deadline, now)}"
    awaited = listed(expected) or _gone(run)
    if phase.leg == "uploading":
        work = "updates" if stage.what == "train" else "evaluations"
        return f"{len(phase.updates)} of {len(phase.cohort)} {work}, waiting for {awaited}{left}"
    reason = f" ({phase.reason})" if phase.reason else ""
    return f"waiting for {_AWAITED[phase.leg]} from {awaited}{left}{reason}"


def _gone(run: Run) -> str:
    """Name those without whom the attempt stands still, when nobody who is here is waited for."""
    silent = unheard(run)
    if away := run.away & silent if silent else run.away:
        return f"{listed(away)} to come back"
    return f"{listed(silent)}, which left the attempt"


def _more(count: int) -> str:
    return f"{count} more client{'' if count == 1 else 's'}"


def _left(deadline: float, now: float) -> str:
    return f"{show_seconds(max(0.0, deadline - now))} left"


def _silence(expected: set[ClientName] | frozenset[ClientName], idle_left: Mapping[ClientName, float]) -> str:
    known = [idle_left[client] for client in expected if client in idle_left]
    return f", {show_seconds(max(0.0, min(known)))} left without progress" if known else ""
