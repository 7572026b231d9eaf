"""What the plan's strategy says about the plan: its parameters and what it needs."""

from pydantic import ValidationError

from unisono.strategies import Needs, known, load

from .mistakes import Mistake, closest, mistakes, shown
from .schema import Aggregation, Plan

_SECTION, _KEY = "aggregation", "strategy"


def complete(plan: Plan) -> tuple[Plan, list[Mistake]]:
    """Return the plan with its strategy's parameters checked and completed, or what is wrong."""
    name = plan.aggregation.strategy
    if name not in known():
        return plan, [unknown(name)]
    model = load(name).Parameters
    try:
        parameters = model.model_validate(plan.aggregation.parameters, strict=True)
    except ValidationError as error:
        return plan, mistakes(error, model, section=_SECTION, beside=(_KEY,))
    section = Aggregation.model_validate({_KEY: name, **parameters.model_dump(mode="json")})
    return plan.model_copy(update={_SECTION: section}), []


def needs_of(name: str) -> Needs | None:
    """Return what a strategy needs, or None if this installation does not know it."""
    return load(name).needs if name in known() else None


def unknown(name: str) -> Mistake:
    """Say that there is no such strategy, and which there are."""
    near = closest(name, known())
    hint = f'did you mean "{near}"?' if near else f"known here: {', '.join(known())}"
    return Mistake((_SECTION, _KEY), f"[{_SECTION}] {_KEY}", f"= {shown(name)} is not installed here", hint)
