"""Opening a round, choosing the cohort of each of its attempts, and what follows when one comes to nothing.

An attempt starts from the same model as the one before it, with a cohort chosen afresh among those present.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from unisono.base.ids import ClientName
from unisono.crypto.digest import sha256
from unisono.crypto.kdf import encode
from unisono.plan import Plan

from .aside import settled
from .effects import Forget
from .endings import end
from .facts import AttemptFailed
from .inviting import fewest, invite
from .phases import Announced, Collecting, InRound, Run
from .result import Step
from .wording import clients, listed

_SAMPLE = "unisono/cohort/1"


def open_round(plan: Plan, run: Run, what: Literal["train", "evaluate"], now: float) -> Step:
    """Announce the round after the latest model's; begin at once if enough clients are here."""
    announced = Announced(now + plan.cohort.wait_seconds)
    aside = replace(run.aside, protected=None, earlier=())
    return gather(plan, replace(run, stage=InRound(what, run.round + 1, 1, now, announced), aside=aside))


def present(run: Run) -> tuple[ClientName, ...]:
    """Return those of the roster that are here, sorted."""
    return tuple(sorted(set(run.roster) - run.away))


def needed(plan: Plan, run: Run) -> int:
    """Return how many must be here before a round may start: those that must survive a full cohort."""
    full = len(run.roster)
    return fewest(plan, min(full, plan.cohort.size) if plan.cohort.size else full, full)


def gather(plan: Plan, run: Run) -> Step:
    """Let an announced round begin, if enough clients are here."""
    stage, here = run.stage, present(run)
    if not (isinstance(stage, InRound) and isinstance(stage.phase, Announced)) or len(here) < needed(
        plan, run
    ):
        return Step(run)
    cohort = _sample(plan, stage, here)
    if plan.protection.mode == "secagg":
        return invite(plan, run, stage, cohort, here)
    return Step(replace(run, stage=replace(stage, phase=Collecting(cohort, frozenset(cohort)))))


def announced(plan: Plan, run: Run, stage: InRound, phase: Announced, now: float) -> Step:
    """Go on if enough are here; fail the attempt if they did not come in time."""
    gathered = gather(plan, run)
    if now < phase.deadline or gathered.run.stage != stage:
        return gathered
    here, wanted = len(present(run)), needed(plan, run)
    away = f"{listed(run.away)} did not come back" if run.away else "nobody else joined"
    reason = f"{here} of {clients(wanted)} needed were here after {plan.cohort.wait_seconds:g} s: {away}"
    return fail_attempt(plan, run, stage, reason, now)


def fail_attempt(plan: Plan, run: Run, stage: InRound, reason: str, now: float) -> Step:
    """Try the round again from the same model, or end the run if that was the last attempt."""
    fact = AttemptFailed(stage.round, stage.attempt, reason)
    if stage.attempt >= plan.rounds.attempts:
        tries = f"after {stage.attempt} attempt{'' if stage.attempt == 1 else 's'}"
        if stage.what == "train":
            return end(run, "failed", f"round {stage.round} failed {tries}: {reason}", (fact,))
        unknown = f"the last model has no metrics, since the closing evaluation failed {tries}: {reason}"
        return end(run, "finished", f"{run.closing}; {unknown}", (fact,))
    again = replace(
        stage,
        attempt=stage.attempt + 1,
        phase=Announced(now + plan.cohort.wait_seconds),
        failures=(*stage.failures, reason),
    )
    forget = Forget(stage.round, stage.attempt)
    gathered = gather(plan, replace(run, stage=again, aside=settled(run.aside)))
    return replace(gathered, effects=(forget, *gathered.effects), facts=(fact, *gathered.facts))


def _sample(plan: Plan, stage: InRound, here: Sequence[ClientName]) -> tuple[ClientName, ...]:
    """Choose `cohort.size` of those who are here: the lowest hashes, so that a replay chooses the same."""
    if not 0 < plan.cohort.size < len(here):
        return tuple(here)

    def lot(client: ClientName) -> bytes:
        return sha256(encode(_SAMPLE, plan.seed, stage.round, stage.attempt, client))

    return tuple(sorted(sorted(here, key=lot)[: plan.cohort.size]))
