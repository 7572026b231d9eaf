"""What travels between the parts of the fast tier: values in place of protobuf, one call at a time."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import Error
from unisono.base.ids import Digest
from unisono.server.runtime.instructions import Instruction

if TYPE_CHECKING:
    from sim_core_desk import Desk

Words = NDArray[np.uint64]
At = tuple[int, int]  # round, attempt


@dataclass(frozen=True)
class Hello:
    """Begin a session."""


@dataclass(frozen=True)
class Poll:
    """Ask what to do."""

    cursor: int


@dataclass(frozen=True)
class Join:
    """Take part."""

    manifest: bytes
    model: Digest


@dataclass(frozen=True)
class FirstModel:
    """The initial model."""

    model: Digest


@dataclass(frozen=True)
class Fetch:
    """Ask for a model."""

    model: Digest


@dataclass(frozen=True)
class Put:
    """An update, masked or not."""

    at: At
    digest: Digest
    words: Words = field(repr=False)


@dataclass(frozen=True)
class Tell:
    """A message of `secagg/1`."""

    at: At
    message: bytes = field(repr=False)


@dataclass(frozen=True)
class Fail:
    """The work of an attempt cannot be done here."""

    at: At
    code: str
    text: str


@dataclass(frozen=True)
class Moves:
    """Work goes on."""

    at: At


@dataclass(frozen=True)
class Bye:
    """The client stops on purpose."""


Request = Hello | Poll | Join | FirstModel | Fetch | Put | Tell | Fail | Moves | Bye


@dataclass(eq=False)
class Call:
    """One call of one site: on its way until it reaches a desk, then until it is over."""

    site: str
    request: Request
    since: float
    desk: "Desk | None" = None
    over: bool = False
    reply: Instruction | None = None
    error: Error | None = None
    deaf: bool = False  # the reply will be lost

    def copy(self) -> "Call":
        return Call(self.site, self.request, self.since)

    def answer(self, reply: Instruction | None = None, error: Error | None = None) -> None:
        self.over, self.reply, self.error = True, reply, error

    @property
    def lost(self) -> bool:
        """Whether the process that it reached is gone."""
        return self.desk is not None and self.desk.dead


@dataclass(frozen=True)
class Sleep:
    """Nothing until then."""

    until: float


Want = Call | Sleep
