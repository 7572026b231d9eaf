"""Finds strategies by name through the entry point group `unisono.strategies`.

A package of somebody else adds one with

    [project.entry-points."unisono.strategies"]
    mymethod = "mypackage.mymethod:MyMethod"
"""

import sys
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import cast

from pydantic import BaseModel

from unisono.base.errors import BadConfiguration

from .contract import Strategy

GROUP = "unisono.strategies"


def known() -> list[str]:
    """Return the names of the installed strategies, sorted."""
    return sorted({point.name for point in _points(tuple(sys.path))})


def load(name: str) -> Strategy[BaseModel]:
    """Return the strategy called `name`.

    Its parameters are made with its own `Parameters` (`strategy.Parameters(**table)`).  Raises
    BadConfiguration if there is none, or two different ones, or if its package is broken.
    """
    found = {point.value: point for point in _points(tuple(sys.path)).select(name=name)}
    match list(found.values()):
        case []:
            close = get_close_matches(name, known(), 1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise BadConfiguration(f'there is no strategy "{name[:80]}"{hint} (known: {", ".join(known())})')
        case [point]:
            return _made(point)
        case _:
            raise BadConfiguration(
                f'two packages call a strategy "{name}": {" and ".join(sorted(found))}; uninstall one'
            )


@lru_cache(maxsize=1)
def _points(path: tuple[str, ...]) -> EntryPoints:
    """Return the installed strategies.  Looking for them reads the metadata of every package: 3 ms."""
    return entry_points(group=GROUP)


def _made(point: EntryPoint) -> Strategy[BaseModel]:
    try:
        strategy = point.load()()
    except (ImportError, AttributeError, TypeError) as problem:
        raise BadConfiguration(
            f'strategy "{point.name}" ({point.value}) cannot be loaded: {problem}'
        ) from problem
    if not isinstance(strategy, Strategy):
        raise BadConfiguration(
            f'"{point.name}" ({point.value}) is no strategy: it lacks {_lacking(strategy)}'
        )
    # An entry point's type is not known before it runs; P is whatever `Parameters` it carries.
    return cast("Strategy[BaseModel]", strategy)


def _lacking(thing: object) -> str:
    wanted = ("name", "Parameters", "needs", "parts", "state", "init", "apply")
    return ", ".join(member for member in wanted if not hasattr(thing, member))
