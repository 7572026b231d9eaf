"""Initialising: one client of the roster sends the model that it made from the plan's seed.

All have made one; the digest that each announced when it joined binds it to what it sends.
"""

from dataclasses import replace

from unisono.base.errors import Refused
from unisono.base.ids import ClientName, Digest
from unisono.codec import first_bound
from unisono.plan import Plan

from .attempts import open_round
from .endings import end
from .events import Event, Lost, ModelReceived, Returned, TaskFailed, Tick
from .facts import ModelKept
from .phases import Initialising, Run
from .result import Step, wrong_phase
from .wording import short


def take_model(plan: Plan, run: Run, model: Digest, norm: float) -> Run:
    """Make `model` the run's first one; the codec's bound starts at its norm.  Raises BadUpdate."""
    recent = (model,) if plan.rounds.keep_models else ()
    return replace(run, model=model, bounds=(first_bound(norm),), recent=recent)


def initialising(plan: Plan, run: Run, stage: Initialising, event: Event, now: float) -> Step:
    """Take the model, or ask the next client for its own."""
    match event:
        case ModelReceived(client, model, norm):
            _check_source(stage, client, model)
            ready = take_model(plan, run, model, norm)
            opened = open_round(plan, ready, "train", now)
            return replace(opened, facts=(ModelKept(0, model), *opened.facts))
        case Lost(client, reason) if client == stage.source:
            return _ask_next(run, stage, reason)
        case TaskFailed(client=client, text=text) if client == stage.source:
            return _ask_next(run, stage, f"task failed ({text})")
        case Tick() | Lost() | Returned():
            return Step(run)
        case _:
            raise wrong_phase(run, event)


def _check_source(stage: Initialising, client: ClientName, model: Digest) -> None:
    if client != stage.source:
        raise Refused(f"the initial model is expected from {stage.source}, not from {client}")
    if model != stage.model:
        raise Refused(f"{client} announced the initial model {short(stage.model)} and sent {short(model)}")


def _ask_next(run: Run, stage: Initialising, reason: str) -> Step:
    for index, (client, model) in enumerate(stage.left):
        if client not in run.away:
            left = (*stage.left[:index], *stage.left[index + 1 :])
            return Step(replace(run, stage=Initialising(client, model, left)))
    return end(
        run, "failed", f"no client is left to send the initial model; the last was {stage.source}: {reason}"
    )
