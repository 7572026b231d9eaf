"""The vocabulary of a client's attempt: every state has every verb, and refuses it unless it says otherwise.

Advertised -> Rostered -> Shared -> Ready -> Committed -> Uploaded -> Agreed -> Revealed
    and from each of Rostered to Agreed -> Abandoned
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Generic, TypeVar

from unisono.base.errors import BadMessage, WrongPhase
from unisono.base.ids import ClientName, Digest
from unisono.crypto.entropy import Entropy
from unisono.crypto.keys import SigningKey
from unisono.secagg.shared.encoding import MAX_STATE, Coded, exactly
from unisono.secagg.shared.messages import Closing, Deal, Quorum, Survivors
from unisono.secagg.shared.roster import Attempt, Pin, Roster, manifest_digest
from unisono.secagg.shared.spec import Spec

S_co = TypeVar("S_co", bound="State", covariant=True)


class Move(Generic[S_co]):
    """A transition.  Neither the new state nor the message can be had before the state is saved."""

    __slots__ = ("_message", "_state")

    def __init__(self, state: S_co, message: Coded | None = None) -> None:
        self._state, self._message = state, message

    def after(self, save: Callable[[bytes], None]) -> tuple[S_co, bytes | None]:
        """Save, then return the state and what to send.  `save` returns once the bytes are on the disk."""
        save(self._state.encode())
        return self._state, None if self._message is None else self._message.encode()


@dataclass(frozen=True, slots=True)
class Bound(Coded):
    """A release that is still open: this attempt may only repeat it (reference 1.1, "Release and retry")."""

    u2: tuple[ClientName, ...]  # sorted
    vector: bytes  # SHA-256 of the quantised vector
    model: Digest
    spec: bytes  # digest


@dataclass(frozen=True)
class Setup(Coded, kept=True):
    """What the site brings to an attempt: who it is, whom it pinned, what its policy asks for."""

    name: ClientName
    attempt: Attempt
    pins: tuple[Pin, ...]  # the manifest of the attempt, which `checks.check_manifest` held to the pinned one
    min_cohort: int
    max_colluding: int
    only: Bound | None
    model: Digest  # the one that row 5 was checked for, as the invitation named it

    def __post_init__(self) -> None:
        if manifest_digest(self.pins) != self.attempt.manifest:
            raise BadMessage("the manifest of the attempt does not have the digest that names it")
        if len({pin.name for pin in self.pins}) != len(self.pins):
            raise BadMessage("the manifest of the attempt names somebody twice")


@dataclass(frozen=True)
class Frame(Coded, kept=True):
    """A context: fixed by the roster and the model, and written before anything is sent under it."""

    setup: Setup
    roster: Roster
    model: Digest
    ctx: bytes

    def __post_init__(self) -> None:
        exactly("a context", self.ctx, 32)

    @cached_property
    def me(self) -> int:
        """Return this client's number."""
        return self.roster.numbers[self.setup.name]

    @property
    def spec(self) -> Spec:
        return self.roster.spec


class State(Coded, limit=MAX_STATE):
    """Refuses everything.  A state is what is saved; the long-term key and entropy are arguments."""

    __slots__ = ()
    phase: ClassVar[str] = ""

    def receive_roster(self, roster: Roster, spec_for: Callable[[int], Spec]) -> "Move[State]":
        """Leg 0, answer.  `spec_for(n)` is what this site computes from the plan for n clients."""
        raise self._wrong("a roster")

    def share(self, model: Digest, key: SigningKey, entropy: Entropy) -> "Move[State]":
        """Leg 1, up, once the model is here and checked (row 14)."""
        raise self._wrong("sharing")

    def receive_deal(self, deal: Deal) -> "Move[State]":
        """Leg 1, answer."""
        raise self._wrong("a deal")

    def commit(self, vector: bytes, length: int) -> "Move[State]":
        """Leg 2, before the first masked byte: the digest of the quantised vector, which is stored by now."""
        raise self._wrong("a vector")

    def uploaded(self, digest: bytes, key: SigningKey) -> "Move[State]":
        """Leg 2, last: all masked bytes, of this digest, are with the coordinator.  Now it is a release."""
        raise self._wrong("the end of the upload")

    def receive_survivors(self, survivors: Survivors, key: SigningKey) -> "Move[State]":
        """Leg 3."""
        raise self._wrong("a survivor set")

    def receive_quorum(self, quorum: Quorum) -> "Move[State]":
        """Leg 4."""
        raise self._wrong("a quorum")

    def abandon(self, request: Closing, key: SigningKey) -> "Move[State]":
        """Sign that this attempt will never be opened by this site, and forget its secrets."""
        raise self._wrong("a request to abandon")

    def _wrong(self, event: str) -> Exception:
        return WrongPhase(self.phase, event)
