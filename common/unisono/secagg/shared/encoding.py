"""Canonical bytes of every message and state: one encoding per value, and one value per encoding.

A value's fields are written in their order by `crypto.encode`, each after its length; what a field is follows
from its type, never from the bytes, so nesting is as deep as the types and no deeper.  A message or state
begins with the protocol's name and its kind: none can be read as another.
"""

from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, NewType, Self, get_args, get_origin, get_type_hints

from unisono.base.errors import BadMessage, Fault
from unisono.crypto.kdf import encode

PROTOCOL = "unisono/secagg/1"
LENGTH = 8  # bytes of a length and of a whole number
MAX_MESSAGE = 1 << 20  # the largest, 100 entries or parcels, has 260 kB
MAX_STATE = 1 << 28  # our own files; a coordinator's book of 100 clients has 25 MB

_BYTES = "_bytes"

Write = Callable[[Any], bytes]
Read = Callable[[bytes], Any]


class Coded:
    """A frozen dataclass that can be sent or saved.  Limits stand in `__post_init__`: BadMessage."""

    __slots__ = ()
    kind: ClassVar[str] = ""
    limit: ClassVar[int] = MAX_MESSAGE
    kept: ClassVar[bool] = False  # its bytes are kept: it is in many messages or states (needs a `__dict__`)

    def __init_subclass__(cls, kind: str = "", limit: int = 0, *, kept: bool = False) -> None:
        if kind:  # a dataclass with slots is made twice, the second time without arguments
            cls.kind = kind
        if limit:
            cls.limit = limit
        if kept:
            cls.kept = kept

    def encode(self) -> bytes:
        """Return the bytes that `decode` takes."""
        return encode(PROTOCOL, self.kind, _own_format(type(self))[0](self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote and nothing else.  Raises BadMessage."""
        if len(data) > cls.limit:
            raise BadMessage(f'"{cls.kind}" of {len(data)} bytes; at most {cls.limit} are allowed')
        if kind_of(data) != cls.kind:
            raise BadMessage(f'a message of the kind "{kind_of(data):.40}" came where "{cls.kind}" belongs')
        value: Self = _own_format(cls)[1](split(data, 3)[2])
        return value


def kind_of(data: bytes) -> str:
    """Return the kind of a message or state, reading no further.  Raises BadMessage if it has none."""
    protocol, at = _field(data, 0)
    kind, _ = _field(data, at)
    if protocol != PROTOCOL.encode():
        raise BadMessage(f'not a message of "{PROTOCOL}"; do both sides run the same version?')
    return _text(kind)


def split(data: bytes, count: int | None = None) -> list[bytes]:
    """Return the fields that `crypto.encode` joined.  Raises BadMessage, also for another number of them."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        field, at = _field(data, at)
        found.append(field)
    if count is not None and len(found) != count:
        raise BadMessage(f"a message has {len(found)} fields where {count} belong")
    return found


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the field that begins at `at`, and where the next one does."""
    start = at + LENGTH
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise BadMessage("a message is cut short: a field is longer than what is left")
    return data[start:end], end


def exactly(what: str, raw: bytes, length: int) -> None:
    """Raise BadMessage unless `raw` has this length."""
    if len(raw) != length:
        raise BadMessage(f"{what} has {len(raw)} bytes; it has to have {length}")


def rising(what: str, numbers: tuple[int, ...]) -> None:
    """Raise BadMessage unless these are clients' numbers, from 1, each once, in rising order."""
    if any(b <= a for a, b in zip((0, *numbers), numbers, strict=False)):
        raise BadMessage(f"{what}: clients are not listed once each, in rising order")


def _own_format(cls: type) -> tuple[Write, Read]:
    return _format(cls)


@cache
def _format(hint: Hashable) -> tuple[Write, Read]:
    """Return how a field of this type is written and read."""
    if isinstance(hint, NewType):
        return _format(hint.__supertype__)
    if hint in _PLAIN:
        return _PLAIN[hint]
    arguments = get_args(hint)
    if get_origin(hint) is tuple:
        return _list(arguments[0]) if arguments[1:] == (...,) else _row(arguments)
    if isinstance(hint, UnionType) and len(arguments) == 2 and arguments[1] is NoneType:
        return _optional(arguments[0])
    if isinstance(hint, type) and is_dataclass(hint):
        return _record(hint)
    raise Fault(f"a field of the type {hint} has no encoding")


def _record(cls: type) -> tuple[Write, Read]:
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    write, read = _row(tuple(hints[name] for name in names))

    def save(value: Any) -> bytes:
        return write([getattr(value, name) for name in names])

    def load(raw: bytes) -> Any:
        return cls(*read(raw))

    return _kept(save, load) if issubclass(cls, Coded) and cls.kept else (save, load)


def _kept(save: Write, load: Read) -> tuple[Write, Read]:
    """Write a value once; what is read has its bytes already, because there is one encoding of a value."""

    def save_once(value: Any) -> bytes:
        if _BYTES not in value.__dict__:
            value.__dict__[_BYTES] = save(value)
        found: bytes = value.__dict__[_BYTES]
        return found

    def load_with_bytes(raw: bytes) -> Any:
        value = load(raw)
        value.__dict__[_BYTES] = raw
        return value

    return save_once, load_with_bytes


def _row(hints: tuple[Hashable, ...]) -> tuple[Write, Read]:
    writes, reads = zip(*map(_format, hints), strict=True)
    return (
        lambda values: encode(*(write(value) for write, value in zip(writes, values, strict=True))),
        lambda raw: tuple(read(part) for read, part in zip(reads, split(raw, len(reads)), strict=True)),
    )


def _list(hint: Hashable) -> tuple[Write, Read]:
    write, read = _format(hint)
    return (lambda values: encode(*map(write, values))), (lambda raw: tuple(map(read, split(raw))))


def _optional(hint: Hashable) -> tuple[Write, Read]:
    write, read = _format(hint)

    def load(raw: bytes) -> object:
        return read(split(raw, 1)[0]) if raw else None

    return (lambda value: b"" if value is None else encode(write(value))), load


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadMessage("a name or word is not UTF-8") from None


def _whole(raw: bytes) -> int:
    exactly("a whole number", raw, LENGTH)
    return int.from_bytes(raw, "big")


def _flag(raw: bytes) -> bool:
    if raw not in (b"\0", b"\1"):
        raise BadMessage("a flag is neither 0 nor 1")
    return raw == b"\1"


_PLAIN: dict[Hashable, tuple[Write, Read]] = {
    bytes: (bytes, bytes),
    str: (str.encode, _text),
    int: (lambda value: value.to_bytes(LENGTH, "big"), _whole),
    bool: (lambda value: b"\1" if value else b"\0", _flag),
}
