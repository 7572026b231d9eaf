"""Clients that answer when the run has started: repeats, and newcomers, whom an open roster takes in."""

from dataclasses import replace

from unisono.base.errors import Refused
from unisono.plan import Plan

from .attempts import gather
from .events import Declined, Deferred, Joined, Offered
from .phases import Run
from .result import Step
from .wording import clients, short


def latecomer(plan: Plan, run: Run, event: Offered | Joined | Declined | Deferred) -> Step:
    """Take in a client where the plan's roster is open, from the next cohort on; otherwise change nothing."""
    is_open = plan.cohort.roster == "open"
    others = tuple(why for why in run.declined if why[0] != event.client)
    match event:
        case Offered() if is_open:
            return Step(replace(run, declined=others))  # it came back: ask it again
        case Declined(client, _, reason) if is_open and client not in run.roster:
            return Step(replace(run, declined=(*others, (client, reason))))
        case Joined(client, manifest):
            if client in run.roster and manifest == run.manifest:
                return Step(run)  # repeated, because the reply was lost
            _check(run, event, is_open)
            grown = replace(run, roster=tuple(sorted((*run.roster, client))), declined=others)
            return gather(plan, grown)
        case _:
            return Step(run)


def _check(run: Run, event: Joined, is_open: bool) -> None:
    if event.manifest != run.manifest:
        mine, theirs = short(event.manifest), short(run.manifest)
        raise Refused(f"the model of {event.client} has manifest {mine}, the run's has {theirs}")
    if not is_open:
        raise Refused(
            f"the roster of this run was frozen with {clients(len(run.roster))}; "
            f"{event.client} can take part in the next run"
        )
