"""What a plan will cost, before anybody starts it: bytes, disk, memory, and seconds on a link.

Payload is counted, not framing, and what the run adds to a process, not Python, gRPC and PyTorch themselves.
"""

from dataclasses import dataclass
from math import ceil
from typing import Protocol

from unisono.codec import bytes_per_parameter, expected_error, padded
from unisono.crypto.sealing import ENVELOPE
from unisono.crypto.segments import sealed_length

from .layout import lanes_of
from .schema import Plan

_CHUNK = 1 << 20
_WORD = 8
_HEAD = 2  # "one" and "weight"; every metric adds a sum and a count
_TALK_UP, _TALK_DOWN = (3_536, 2_387), (3_282, 5_290)  # bytes of secagg/1: for oneself, for each other client
_OPTIMISER_COPIES = {"sgd": 0, "adam": 2, "adamw": 2}


class Sized(Protocol):
    """What must be known of a model: a manifest of `tensors`, or `Sizes`."""

    @property
    def length(self) -> int: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def metrics(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Sizes:
    """A model known by its size only: coordinates that travel, and bytes of its file."""

    length: int
    file_bytes: int
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """All in bytes, of rounds after the first; `seconds` on one client's link, training not counted."""

    clients: int
    model: int
    bytes_down: int  # per client and round: the model, and what the protocol says
    bytes_up: int  # per client and round: the sealed or masked update
    coordinator_disk: int
    coordinator_memory: int
    client_disk: int
    client_memory: int
    seconds: float

    @property
    def round_bytes_out(self) -> int:
        """What leaves the coordinator in a round."""
        return self.clients * self.bytes_down

    @property
    def round_bytes_in(self) -> int:
        """What reaches the coordinator in a round."""
        return self.clients * self.bytes_up


@dataclass(frozen=True, slots=True)
class Packing:
    """How coordinates travel: bits of a lane, bytes a parameter, and the error of the mean that it costs."""

    lanes: int
    bytes_per_parameter: float
    expected_error: float | None  # ||error||^2 / ||mean||^2; None where no formula tells it


def packing(plan: Plan, clients: int, *, first: bool) -> Packing:
    """Return the packing of round 1 (`first`), or of the rounds after it.

    The error of a rotated update is known once its bound follows the sums; in round 1 it follows the model.
    """
    lanes = lanes_of(plan, clients, first=first)
    known = plan.protection.mode != "sealed" and not first
    return Packing(lanes, bytes_per_parameter(lanes), expected_error(lanes, clients) if known else None)


def update_bytes(plan: Plan, model: Sized, clients: int, *, first: bool = False) -> int:
    """Return the plain bytes of one update: lanes packed in words of 64 bits, then the head.

    One part as long as the travelling vector, as every strategy of ours sends; under `secagg` it is rotated,
    which makes it whole blocks.
    """
    a_word = 64 // lanes_of(plan, clients, first=first)
    length = model.length if plan.protection.mode == "sealed" else padded(model.length)
    return _WORD * (ceil(length / a_word) + _HEAD + 2 * len(model.metrics))


def talk(plan: Plan, clients: int) -> tuple[int, int]:
    """Return the bytes down and up of the protocol's own messages, for one client in a round of `clients`."""
    if plan.protection.mode == "sealed":
        return 0, 0
    down, up = (own + (clients - 1) * other for own, other in (_TALK_DOWN, _TALK_UP))
    return down, up


def forecast(
    plan: Plan, model: Sized, clients: int, link_bytes_per_second: float, state_vectors: int = 0
) -> Forecast:
    """Return what `clients` clients and their coordinator need for a round, and to keep what the plan keeps.

    `state_vectors` is how many float32 vectors the strategy keeps on the coordinator (`Strategy.state`): they
    are on disk twice while a round commits.
    """
    plain, widest = (update_bytes(plan, model, clients, first=first) for first in (False, True))
    sealed = plan.protection.mode == "sealed"
    said_down, said_up = talk(plan, clients)
    up = (ENVELOPE + sealed_length(plain) if sealed else plain) + said_up  # masked words need no envelope
    down = model.file_bytes + said_down
    spooled = up if sealed else widest
    vector, file = 4 * model.length, model.file_bytes
    kept = 3 + plan.rounds.keep_models  # best, last, and the one being written
    in_flight = 2 * _CHUNK * clients  # a chunk received and a chunk on its way to the spool
    update = up if sealed else 2 * widest  # masked, and as it was before: a killed client masks it again
    return Forecast(
        clients=clients,
        model=model.file_bytes,
        bytes_down=down,
        bytes_up=up,
        coordinator_disk=clients * spooled + kept * file + 2 * state_vectors * vector,
        coordinator_memory=widest + in_flight,
        client_disk=2 * file
        + vector
        + update,  # this round's model and the next one's, the delta, the update
        client_memory=2 * file + vector * (2 + _OPTIMISER_COPIES[plan.training.optimizer]),
        seconds=(down + up) / link_bytes_per_second,
    )
