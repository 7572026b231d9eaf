"""What a plan will cost, before anybody starts it: bytes, disk, memory, and seconds on a link.

Payload is counted, not framing, and what the run adds to a process, not Python, gRPC and PyTorch themselves.
"""

from dataclasses import dataclass
from math import ceil
from typing import Protocol

from unisono.crypto.segments import sealed_length

from .layout import lanes_of
from .schema import Plan

_CHUNK = 1 << 20
_WORD = 8
_ENVELOPE = 40  # crypto.sealing.ENVELOPE; that module reaches the system's entropy, a plan may not
_HEAD = 2  # "one" and "weight"; every metric adds a sum and a count
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
    """All in bytes; `seconds` of one round on one client's link, training not counted."""

    clients: int
    bytes_down: int  # per client and round: the model
    bytes_up: int  # per client and round: the sealed update
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


def update_bytes(plan: Plan, model: Sized, clients: int) -> int:
    """Return the plain bytes of one update: lanes packed in words of 64 bits, then the head.

    One part as long as the travelling vector, as every strategy of ours sends.
    """
    a_word = 64 // lanes_of(plan, clients, first=False)
    return _WORD * (ceil(model.length / a_word) + _HEAD + 2 * len(model.metrics))


def forecast(
    plan: Plan, model: Sized, clients: int, link_bytes_per_second: float, state_vectors: int = 0
) -> Forecast:
    """Return what `clients` clients and their coordinator need for a round, and to keep what the plan keeps.

    `state_vectors` is how many float32 vectors the strategy keeps on the coordinator (`Strategy.state`): they
    are on disk twice while a round commits.
    """
    plain = update_bytes(plan, model, clients)
    up, down = _ENVELOPE + sealed_length(plain), model.file_bytes
    vector = 4 * model.length
    kept = 3 + plan.rounds.keep_models  # best, last, and the one being written
    in_flight = 2 * _CHUNK * clients  # a chunk received and a chunk on its way to the spool
    return Forecast(
        clients=clients,
        bytes_down=down,
        bytes_up=up,
        coordinator_disk=clients * up + kept * down + 2 * state_vectors * vector,
        coordinator_memory=plain + in_flight,
        client_disk=2 * down
        + vector
        + up,  # this round's model and the next one's, the delta, the sealed update
        client_memory=2 * down + vector * (2 + _OPTIMISER_COPIES[plan.training.optimizer]),
        seconds=(down + up) / link_bytes_per_second,
    )
