"""Collecting: the cohort trains and uploads, until nobody is waited for any more."""

from dataclasses import replace

from unisono.base.errors import Refused
from unisono.base.ids import ClientName, Digest
from unisono.plan import Plan

from .attempts import fail_attempt
from .effects import Aggregate
from .events import Event, Lost, Returned, TaskFailed, Tick, Uploaded
from .phases import Aggregating, Collecting, InRound, Run, Why
from .result import Step, check_attempt, wrong_phase
from .wording import reasons


def collecting(plan: Plan, run: Run, stage: InRound, phase: Collecting, event: Event, now: float) -> Step:
    """Count an update, leave a client behind, or wait on."""
    match event:
        case Uploaded(client=client, digest=digest):
            check_attempt(run, stage, event)
            if is_repeat(phase, client, digest):
                return Step(run)
            return _go_on(plan, run, stage, _counted(plan, phase, client, digest, now), now)
        case TaskFailed(client=client, text=text):
            check_attempt(run, stage, event)
            if client not in phase.waiting and client not in dict(phase.dropped):
                raise wrong_phase(run, event)
            return _go_on(plan, run, stage, _dropped(phase, {client}, f"task failed ({text})"), now)
        case Lost(client, reason):
            return _go_on(plan, run, stage, _dropped(phase, {client}, reason), now)
        case Tick() if phase.grace is not None and now >= phase.grace:
            slow = f"slower than the grace of {plan.rounds.grace_seconds:g} s"
            return _go_on(plan, run, stage, _dropped(phase, phase.waiting, slow), now)
        case Tick() | Returned():  # who was dropped and is back works in the next attempt or round
            return Step(run)
        case _:
            raise wrong_phase(run, event)


def is_repeat(phase: Collecting | Aggregating, client: ClientName, digest: Digest) -> bool:
    """Tell whether this very update has been counted.  Raises Refused if the client may not upload."""
    known = dict(phase.updates).get(client)
    if known == digest:
        return True
    if known is not None:
        raise Refused(f"{client} has uploaded another update in this attempt, and one counts")
    if client not in phase.cohort:
        raise Refused(f"{client} is not in the cohort of this attempt")
    if left := dict(phase.dropped).get(client):
        raise Refused(f"{client} was left behind in this attempt: {left}")
    return False


def _counted(plan: Plan, phase: Collecting, client: ClientName, digest: Digest, now: float) -> Collecting:
    updates = (*phase.updates, (client, digest))
    grace = phase.grace
    if grace is None and plan.rounds.wait == "quorum" and len(updates) >= plan.minimum(len(phase.cohort)):
        grace = now + plan.rounds.grace_seconds
    return replace(phase, updates=updates, waiting=phase.waiting - {client}, grace=grace)


def _dropped(phase: Collecting, clients: set[ClientName] | frozenset[ClientName], reason: str) -> Collecting:
    gone: tuple[Why, ...] = tuple((client, reason) for client in sorted(clients & phase.waiting))
    return replace(phase, waiting=phase.waiting - clients, dropped=(*phase.dropped, *gone))


def _go_on(plan: Plan, run: Run, stage: InRound, phase: Collecting, now: float) -> Step:
    """Wait on, sum up, or fail as soon as too few can still survive: nobody should train for nothing."""
    run = replace(run, stage=replace(stage, phase=phase))
    wanted, left = plan.minimum(len(phase.cohort)), len(phase.updates) + len(phase.waiting)
    if left < wanted:
        reason = f"{left} of {wanted} survivors needed: {reasons(phase.dropped)}"
        return fail_attempt(plan, run, stage, reason, now)
    if phase.waiting:
        return Step(run)
    return _sum_up(run, stage, phase)


def _sum_up(run: Run, stage: InRound, phase: Collecting) -> Step:
    updates = tuple(sorted(phase.updates))
    frozen = Aggregating(phase.cohort, updates, phase.dropped)
    order = Aggregate(
        stage.round, stage.attempt, stage.what, len(phase.cohort), updates, run.latest, run.bounds, run.state
    )
    return Step(replace(run, stage=replace(stage, phase=frozen)), (order,))
