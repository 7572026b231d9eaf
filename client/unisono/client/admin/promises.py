"""What a plan's protection promises to so many clients, and what its packing costs: in words and for scripts.

Pure; the numbers are those that coordinator and clients compute (`secagg.shared.laying.terms_of`).
"""

from dataclasses import asdict

from unisono.base.errors import BadConfiguration
from unisono.plan import Plan
from unisono.plan.forecast import Packing, packing
from unisono.secagg.shared.laying import terms_of
from unisono.secagg.shared.terms import FEWEST, MOST, Terms


def terms_for(plan: Plan, clients: int) -> Terms | None:
    """Return n, c, t and m for so many clients; None under `sealed`, which promises no such thing.

    Raises BadConfiguration if so many could have no round.
    """
    if plan.protection.mode == "sealed":
        return None
    if not FEWEST <= clients <= MOST:
        raise BadConfiguration(
            f'protection "{plan.protection.mode}" takes {FEWEST} to {MOST} clients, not {clients}\n'
            '  the sum of two tells each the other\'s update; [protection] mode = "sealed" takes any number, '
            "if every site's policy allows it"
        )
    terms = terms_of(plan, clients, clients)
    problem = terms.problem() or _too_many(terms)
    if problem:
        raise BadConfiguration(
            f"with {clients} clients no round can succeed: {problem}\n"
            "  ask for more clients, or lower [protection] max_colluding or [cohort] min_survivors"
        )
    return terms


def _too_many(terms: Terms) -> str:
    return f"{terms.minimum} survivors are asked for" if terms.minimum > terms.clients else ""


def promise_words(terms: Terms | None) -> str:
    """Say who may conspire and who may drop out."""
    if terms is None:
        return "  sealed    the coordinator's process opens and reads every single update"
    c = terms.colluding
    conspire = f"{c} may" if c else "no client may"
    return (
        f"  secagg    the coordinator reads sums of {terms.minimum} updates or more, never one of them\n"
        f"            {staying(terms)}; {conspire} conspire with the coordinator"
    )


def staying(terms: Terms) -> str:
    """Say how many clients must stay: m until they have uploaded, t until the sum is open."""
    n, t, m = terms.clients, terms.threshold, terms.minimum
    first = f"all {n} must" if m == n else f"any {m} of {n} must"
    return f"{first} stay" if t == m else f"{first} upload, and any {t} of them stay"


def promised(plan: Plan, terms: Terms | None) -> dict[str, object]:
    """Return the promise for scripts."""
    numbers: dict[str, object] = asdict(terms) if terms else {}
    return {"mode": plan.protection.mode, **numbers}


def packing_words(plan: Plan, clients: int) -> str:
    """Say how wide a lane is and what that costs; round 1 apart where it differs."""
    first, later = packing(plan, clients, first=True), packing(plan, clients, first=False)
    text = f"  lanes     {_packing(later)}"
    if later.expected_error is not None:
        text += f", expected error {later.expected_error:.1e} of the mean update's square"
    return text if first.lanes == later.lanes else f"{text}\n            {_packing(first)} in round 1"


def _packing(found: Packing) -> str:
    return f"{found.lanes} bits, {found.bytes_per_parameter:.3g} bytes a parameter"


def packed(plan: Plan, clients: int) -> dict[str, object]:
    """Return the packing for scripts."""
    first, later = packing(plan, clients, first=True), packing(plan, clients, first=False)
    return {"round_1": asdict(first), "later_rounds": asdict(later)}
