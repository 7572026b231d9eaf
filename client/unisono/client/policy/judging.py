"""Does a plan stay within this site's policy?  Checked before training, and again before every round.

What is judged here needs the plan only.  Under `secagg` the numbers of an attempt (clients, c, t, m), and who
takes part, are known once its roster is there: the protocol's own checks hold them to `min_cohort`,
`max_colluding`, `roster_digest` and `max_releases_per_model` (reference 1.4, rows 2, 5, 7, 8 and 12).  Here a
plan is declined at once if no roster could satisfy them.

Under `sealed` the coordinator reads each update, there is no pinned roster and nothing bounds who conspires
with whom.  A policy that asks for such a promise therefore refuses, instead of letting the key stand there
without effect.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from unisono.plan import Plan, digest
from unisono.plan.thresholds import default_colluding, smallest

from .schema import Policy

OUTSIDE = "outside_policy"
NOT_APPROVED = "plan_not_approved"
_READS = "in which the coordinator reads this site's update by itself"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why this site declines: a stable code, and a sentence with the policy's key and both values."""

    code: str
    reason: str


def judge(
    policy: Policy, plan: Plan, cohort_size: int, minute_of_day: int, approved: Collection[str] = ()
) -> Refusal | None:
    """Return the first reason to decline, or None.

    Args:
        policy: the site's own file.
        plan: what the coordinator asks for.
        cohort_size: clients in the round's cohort, this one included.
        minute_of_day: the site's local time, 0 to 1439.
        approved: digests of plans that somebody here approved by hand, beside those in the file.

    """
    for reason in (
        *_scope(policy, plan, cohort_size),
        *_promises(policy, plan),
        *_time(policy, minute_of_day),
    ):
        return Refusal(OUTSIDE, reason)
    return _approval(policy, plan, approved)


def _scope(policy: Policy, plan: Plan, cohort_size: int) -> Iterator[str]:
    mode = plan.protection.mode
    if policy.tasks is not None and plan.task not in policy.tasks:
        yield f'policy tasks = {_listed(policy.tasks)}; the plan asks for task "{plan.task}"'
    if mode not in policy.protections:
        told = f'"{mode}", {_READS}' if mode == "sealed" else f'"{mode}"'
        yield (
            f"policy protections = {_listed(policy.protections)}; the plan asks for {told}; "
            f"a site that allows it writes protections = {_listed((*policy.protections, mode))}"
        )
    if cohort_size < policy.min_cohort:
        yield f"policy min_cohort = {policy.min_cohort}; the cohort has {cohort_size}"
    elif mode != "sealed" and (few := _fewest(plan)) is not None and few < policy.min_cohort:
        yield (
            f"policy min_cohort = {policy.min_cohort}; the plan lets {few} updates make a sum: it needs "
            f"[cohort] min_survivors = {policy.min_cohort}"
        )


def _fewest(plan: Plan) -> int | None:
    """Return the fewest updates in a sum when the whole cohort is there; None if the plan names no size.

    With fewer clients a sum may hold fewer: each attempt's roster is held to the policy again.
    """
    size, colluding = plan.cohort.size, plan.protection.max_colluding
    if not size:
        return None
    c = default_colluding(size) if colluding < 0 else colluding
    return max(plan.cohort.min_survivors, smallest(size, c))


def _promises(policy: Policy, plan: Plan) -> Iterator[str]:
    mode, colluding = plan.protection.mode, plan.protection.max_colluding
    if policy.max_epsilon is not None:
        yield f"policy max_epsilon = {policy.max_epsilon:g}; the plan has no differential privacy"
    if policy.max_colluding > 0 and mode == "sealed":
        yield f'policy max_colluding = {policy.max_colluding}; protection "sealed" withstands 0'
    if policy.max_colluding > colluding >= 0:
        yield (
            f"policy max_colluding = {policy.max_colluding}; the plan withstands {colluding}: it needs "
            f"[protection] max_colluding = {policy.max_colluding}"
        )
    if policy.roster_digest is not None and mode == "sealed":
        pinned = policy.roster_digest[:8]
        yield f'policy roster_digest = "{pinned}..."; protection "sealed" has no roster to compare'


def _time(policy: Policy, minute: int) -> Iterator[str]:
    if policy.span is not None and not policy.span.holds(minute):
        yield f'policy hours = "{policy.hours}"; it is {minute // 60:02}:{minute % 60:02} here'


def _approval(policy: Policy, plan: Plan, approved: Collection[str]) -> Refusal | None:
    """Hold the plan to the list of approved ones; `approve = "ask"` makes an absent list an empty one."""
    if policy.plans is None and policy.approve == "within-policy":
        return None
    identity, listed = digest(plan), policy.plans or ()
    if identity in listed or identity in approved:
        return None
    if policy.approve == "ask":
        return Refusal(NOT_APPROVED, f'policy approve = "ask"; nobody here has approved plan {identity} yet')
    return Refusal(
        NOT_APPROVED, f"policy plans lists {len(listed)}; plan {identity} is not among the approved plans"
    )


def _listed(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"
