"""Keys that are right one by one and contradict each other.

A setting that would be ignored is refused too: a plan is read and approved by people, who trust what it says.
"""

from collections.abc import Iterator

from .methods import complete, needs_of, unknown
from .mistakes import Mistake
from .reading import refusal
from .schema import Plan
from .sums import conflicts_of_sums


def check(plan: Plan) -> None:
    """Raise BadConfiguration with the first contradiction and the way out of it."""
    found = conflicts(plan)
    if found:
        raise refusal("", found[0], "", len(found) - 1)


def conflicts(plan: Plan) -> list[Mistake]:
    """Return all contradictions."""
    return [*_strategy(plan), *_protection(plan), *_cohort(plan), *_stop(plan)]


def _strategy(plan: Plan) -> Iterator[Mistake]:
    name, mode, optimizer = plan.aggregation.strategy, plan.protection.mode, plan.training.optimizer
    needs = needs_of(name)
    if needs is None:
        yield unknown(name)
        return
    yield from complete(plan)[1]
    if needs.single_updates and mode != "sealed":
        yield Mistake(
            ("aggregation", "strategy"),
            "[aggregation] strategy",
            f'= "{name}" needs single updates, which protection "{mode}" hides',
            'use strategy = "fedavg", or [protection] mode = "sealed" if every site\'s policy allows it',
        )
    if needs.optimisers is not None and optimizer not in needs.optimisers:
        allowed = " or ".join(f'"{one}"' for one in sorted(needs.optimisers))
        yield Mistake(
            ("training", "optimizer"),
            "[training] optimizer",
            f'= "{optimizer}" does not work with strategy "{name}"',
            f"use optimizer = {allowed}",
        )


def _protection(plan: Plan) -> Iterator[Mistake]:
    match plan.protection.mode:
        case "sealed":
            yield from _sealed(plan)
        case "secagg":
            yield from conflicts_of_sums(plan)
        case mode:
            yield Mistake(
                ("protection", "mode"),
                "[protection] mode",
                f'= "{mode}" is not available in this version',
                'use mode = "secagg": the coordinator reads sums and the model, no single update',
            )


def _sealed(plan: Plan) -> Iterator[Mistake]:
    lanes, colluding = plan.codec.lanes, plan.protection.max_colluding
    if lanes != "auto":
        yield Mistake(
            ("codec", "lanes"),
            "[codec] lanes",
            f'= {lanes} has no effect with protection "sealed", which always sends 32 bits',
            'use lanes = "auto"',
        )
    if colluding != -1:
        yield Mistake(
            ("protection", "max_colluding"),
            "[protection] max_colluding",
            f'= {colluding} promises nothing with mode "sealed": the coordinator reads every update',
            "leave it out",
        )


def _cohort(plan: Plan) -> Iterator[Mistake]:
    size, survivors = plan.cohort.size, plan.cohort.min_survivors
    if size and survivors > size:
        yield Mistake(
            ("cohort", "min_survivors"),
            "[cohort] min_survivors",
            f"= {survivors} is more than size = {size}: no round could succeed",
            f"use at most {size}, or size = 0 for all that offer the task",
        )


def _stop(plan: Plan) -> Iterator[Mistake]:
    if plan.stop.metric:
        return
    for key, value in (("target", plan.stop.target), ("patience", plan.stop.patience)):
        if value:
            yield Mistake(
                ("stop", key),
                f"[stop] {key}",
                f"= {value} has no metric to look at",
                'name one of the task\'s metrics: metric = "accuracy"',
            )
