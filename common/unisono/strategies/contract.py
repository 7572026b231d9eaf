"""What a strategy is: the half of a method that runs on sums.

The other half, local training that differs from the plain loop, is a hook of the trainer, named by
`Needs.local`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from unisono.tensors import Manifest

Vector: TypeAlias = NDArray[np.float32]  # one stretch of the travelling vector, one dimension
State: TypeAlias = dict[str, Vector]


class Parameters(BaseModel):
    """Base of a strategy's parameters: the unknown keys of a plan's `[aggregation]`, validated with it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Part:
    """One vector that every client sends.

    It is weighted by the client's "examples" (the mean is sum(w_k x_k) / sum(w_k) over the survivors) or
    counts as "one" (sum(x_k) / survivors).
    """

    name: str
    length: int
    weighted: Literal["examples", "one"] = "examples"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a strategy asks of the rest; a plan that cannot give it is refused before it starts.

    `single_updates`: the coordinator must see each update, which secure aggregation forbids.
    `client_state`: clients keep something between rounds.  `optimisers`: local optimisers it is correct
    with, None for any.  `local`: the trainer's hook, "" for plain training.
    """

    single_updates: bool = False
    client_state: bool = False
    optimisers: frozenset[str] | None = None
    local: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """The survivors' means of each part, for one stretch; `weight` is the sum of client weights."""

    mean: Mapping[str, Vector]
    weight: float
    survivors: int


@runtime_checkable
class Strategy(Protocol[P]):
    """One method.  An instance holds nothing: whatever lasts is in the state vectors."""

    name: ClassVar[str]
    Parameters: type[P]
    needs: Needs

    def parts(self, p: P, manifest: Manifest) -> tuple[Part, ...]:
        """Return what a client sends."""
        ...

    def state(self, p: P) -> tuple[str, ...]:
        """Return the names of the vectors that the coordinator keeps, each as long as the model's."""
        ...

    def init(self, p: P, name: str, model: Vector) -> Vector:
        """Return the first value of a state vector, for the stretch where the first model is `model`."""
        ...

    def apply(self, p: P, state: Mapping[str, Vector], model: Vector, sums: Sums) -> tuple[State, Vector]:
        """Return the next state and the next model of one stretch; its arguments are left as they are."""
        ...
