"""Secure aggregation: every message as bytes, and every leg of both sides handed a changed message."""

from collections.abc import Iterator
from copy import copy
from dataclasses import fields, is_dataclass
from functools import cache

from fuzz_target import Target, same
from secagg_world import Coordinator, Journey, journey, names

from unisono.base.errors import BadMessage, PeerFault, Refused
from unisono.base.ids import ClientName
from unisono.secagg import client as c
from unisono.secagg import server as s
from unisono.secagg.server.stage import Record
from unisono.secagg.shared.encoding import Coded, kind_of, split
from unisono.secagg.shared.messages import Closing, Deal, Quorum, Survivors
from unisono.secagg.shared.reading import read_certificate, read_down, read_up
from unisono.secagg.shared.roster import Roster

VICTIM = names(5)[0]


@cache
def played() -> Journey:
    return journey(5)


def _messages(data: bytes) -> None:
    last: BadMessage | None = None
    for read in (read_up, read_down, read_certificate):
        try:
            same(read(data).encode(), data)
        except BadMessage as error:
            last = error
        else:
            return
    assert last is not None
    raise last


def _message_seeds() -> Iterator[bytes]:
    yield from played().up.values()
    for message in played().down.values():
        yield message.encode()


def _states(data: bytes) -> None:
    """Read what lies on our own disk: an altered file is refused, too."""
    if kind_of(data) == Record.kind:
        same(Record.decode(data).encode(), data)
    else:
        same(c.decode_state(data).encode(), data)


def _state_seeds() -> Iterator[bytes]:
    yield from (state.encode() for state in played().states.values())
    yield from played().world.coordinator.ledger[:6]


def _fields(data: bytes) -> None:
    found = split(data)
    same(b"".join(len(field).to_bytes(8, "big") + field for field in found), data)


@cache
def _stages() -> tuple[s.Stage, ...]:
    return tuple(played().stages.values())


def _up_legs(data: bytes) -> None:
    """Say a message to the coordinator in each of its stages, in the name of each member.

    It may be taken only if it is what that member said in fact: everything is signed.
    """
    message = read_up(data)
    said = set(played().up.values())
    for stage in _stages():
        coordinator = copy(played().world.coordinator)
        coordinator.stage, coordinator.ledger = stage, []
        coordinator.spool = dict(played().spool)
        for name in names(5)[:2]:
            if _taken(coordinator, name, message):
                assert data in said, "the coordinator took what nobody signed"


def _taken(coordinator: Coordinator, name: ClientName, message: Coded) -> bool:
    before = coordinator.stage.encode()
    vector = coordinator.spool.get(name, next(iter(coordinator.spool.values())))
    try:
        coordinator.receive(name, message, vector)
    except (PeerFault, Refused):  # the coordinator writes some refusals down, and goes on
        return False
    except AssertionError:  # a complaint, which the world of the tests does not carry
        return False
    return coordinator.stage.encode() != before


def _down_legs(data: bytes) -> None:
    """Hand a message to a client in each of its states: it refuses, or repeats itself, or goes on.

    It goes on only with what was signed and sealed by the others in fact: a coordinator may leave somebody
    out of a message, but never put in a key, a parcel or a signature of its own making.
    """
    message = read_down(data)
    genuine = set().union(*(_leaves(down) for down in played().down.values()))
    for state in played().states.values():
        try:
            moved, _ = _moved(state, message).after(lambda _: None)
        except (PeerFault, Refused):
            continue
        if moved != state and not isinstance(message, Quorum):  # which needs enough signatures, not all
            assert _leaves(message) <= genuine, "a client went on with what nobody signed"


def _leaves(value: object) -> set[bytes]:
    """Return the keys, boxes and signatures in a message."""
    if isinstance(value, bytes):
        return {value} if len(value) >= 32 else set()
    if isinstance(value, tuple):
        return set().union(*map(_leaves, value))
    if is_dataclass(value):
        return set().union(*(_leaves(getattr(value, f.name)) for f in fields(value)))
    return set()


def _moved(state: c.State, message: Coded) -> c.Move[c.State]:
    site = played().world.sites[VICTIM]
    match message:
        case Roster():
            return state.receive_roster(message, site.spec_for)
        case Deal():
            return state.receive_deal(message)
        case Survivors():
            return state.receive_survivors(message, site.key)
        case Quorum():
            return state.receive_quorum(message)
        case Closing():
            return state.abandon(message, site.key)
    raise BadMessage("no message of the coordinator")


def _up_seeds() -> Iterator[bytes]:
    yield from (data for (_, name), data in played().up.items() if name == VICTIM)


BAD = (BadMessage,)
TARGETS = (
    Target("secagg_message", _messages, _message_seeds, BAD, 16_384),
    Target("secagg_state", _states, _state_seeds, BAD, 65_536),
    Target("secagg_fields", _fields, lambda: (b"", bytes(8), bytes(7) + b"\1x"), BAD, 512),
    Target("secagg_up", _up_legs, _up_seeds, BAD, 16_384),
    Target("secagg_down", _down_legs, lambda: [m.encode() for m in played().down.values()], BAD, 16_384),
)
