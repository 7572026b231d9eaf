"""Inviting a cohort to an attempt under secure aggregation: whom, and whom not together.

A cohort may only be asked for a sum if nobody in it has an earlier one that could still be opened
(`secagg.server.check_retry`), unless it is that very sum again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from unisono.base.ids import ClientName, Digest
from unisono.plan import Plan, digest
from unisono.secagg.server import Member, Setup, begin, check_retry
from unisono.secagg.server.faults import AttemptOpen
from unisono.secagg.shared.laying import terms_of
from unisono.secagg.shared.roster import Attempt, Pin, fingerprint, manifest_digest
from unisono.secagg.shared.terms import FEWEST

from .aside import Row
from .phases import InRound, Run, Securing
from .result import Step


def fewest(plan: Plan, cohort: int, sites: int) -> int:
    """Return how many of a cohort must survive, in a run of so many sites."""
    if plan.protection.mode == "sealed":
        return plan.minimum(cohort)
    return terms_of(plan, max(cohort, FEWEST), max(sites, FEWEST)).minimum


def pins(run: Run) -> tuple[Pin, ...]:
    """Return the run's manifest: every site of its roster and the key that signs for it."""
    return _pins(run.roster, run.identities)


@lru_cache(maxsize=16)  # asked for with every instruction; the roster of a run is frozen
def _pins(roster: tuple[ClientName, ...], identities: tuple[tuple[ClientName, str], ...]) -> tuple[Pin, ...]:
    keys = dict(identities)
    return tuple(Pin(client, fingerprint(bytes.fromhex(keys[client]))) for client in roster)


def manifest(run: Run) -> Digest:
    """Return what sites pin, and people compare."""
    return manifest_digest(pins(run))


def invite(
    plan: Plan, run: Run, stage: InRound, cohort: Sequence[ClientName], here: Sequence[ClientName]
) -> Step:
    """Begin an attempt with `cohort`; with the same survivors again where an open one binds them.

    Such a repeat sends the same vectors, so its spec has to be for as many clients: others `here` fill the
    roster, and do not count.  Changes nothing while too few are here, or too few are left that may meet.
    """
    try:
        only = check_retry(run.aside.earlier, here)
    except AttemptOpen:
        return Step(run)
    chosen = _filled(run, only, here) if only else kept_apart(_sound(plan, run, cohort), run.apart)
    terms = terms_of(plan, len(chosen), len(run.roster))
    if len(chosen) < max(FEWEST, terms.minimum) or terms.problem():
        return Step(run)
    keys = dict(run.identities)
    members = tuple(Member(client, bytes.fromhex(keys[client])) for client in chosen)
    attempt = Attempt(run.aside.run, stage.round, stage.attempt, digest(plan), manifest(run))
    setup = Setup(attempt, members, only)
    phase = Securing(chosen, frozenset(chosen))
    begun = replace(run, stage=replace(stage, phase=phase), aside=replace(run.aside, protected=begin(setup)))
    return Step(begun, rows=(Row(stage.round, stage.attempt, setup.encode()),))


def _filled(run: Run, only: Sequence[ClientName], here: Sequence[ClientName]) -> tuple[ClientName, ...]:
    """Return the survivors of an open attempt, and others up to its number of clients; () if too few are."""
    clients = next(found.clients for found in run.aside.earlier if found.survivors == tuple(only))
    others = sorted((c for c in here if c not in only), key=lambda client: (client in run.faulty, client))
    found = tuple(sorted((*only, *others[: clients - len(only)])))
    return found if len(found) == clients else ()


def _sound(plan: Plan, run: Run, cohort: Sequence[ClientName]) -> Sequence[ClientName]:
    """Return the cohort without those who made a sum impossible to open, if that leaves enough."""
    sound = [client for client in cohort if client not in run.faulty]
    return sound if len(sound) >= fewest(plan, len(sound), len(run.roster)) else cohort


def kept_apart(
    cohort: Sequence[ClientName], apart: Sequence[tuple[ClientName, ClientName]]
) -> tuple[ClientName, ...]:
    """Return the cohort without pairs that could not read each other: whoever is in most of them leaves.

    Which of two lies is open; but who slanders many, or deals bad shares to many, is alone in many pairs.
    """
    left = list(cohort)
    while pairs := [pair for pair in set(apart) if set(pair) <= set(left)]:
        counts = Counter(client for pair in pairs for client in pair)
        left.remove(max(sorted(counts), key=lambda client: counts[client]))
    return tuple(left)
