"""The client's half of a strategy, one file each, where local training is not the plain loop.

A strategy names its hook in `needs.local`: a module of this package, or, for a researcher's own package, a
dotted module name.  The module has a function `train(lesson) -> Trained`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from pydantic import JsonValue

from unisono.base.errors import BadConfiguration
from unisono.client.task import Context, Loops, Task
from unisono.client.trainer.model import Held
from unisono.client.trainer.update import Source
from unisono.tensors import Reader


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a hook works with.

    `held` holds the received model, `received` reads its file again; `parameters` are the strategy's own,
    from the plan.
    """

    task: Task
    held: Held
    received: Reader
    context: Context
    loops: Loops
    parameters: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Trained:
    """How many examples were learnt from, and where the numbers of each part come from."""

    examples: int
    sources: Mapping[str, Source]


def find(name: str) -> Callable[[Lesson], Trained]:
    """Return the hook called `name`; "" is plain training.  Raises BadConfiguration."""
    place = name if "." in name else f"{__name__}.{name or 'plain'}"
    try:
        found: Callable[[Lesson], Trained] = import_module(place).train
    except (ModuleNotFoundError, AttributeError) as problem:
        raise BadConfiguration(
            f'the strategy trains with "{name}", which this client lacks: {problem}'
        ) from problem
    return found
