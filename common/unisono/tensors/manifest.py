"""The manifest of a model: which tensors it has, which of them travel, where each lies in the file.

It is agreed once, at the start of a run; after that no file decides its own layout.  Its digest goes
into the run's context, so two clients with different models notice before any training.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest
from unisono.crypto.digest import sha256_hex

from .dtypes import DTYPES, RANK
from .strict_json import Json, parse_json, write_json

MAX_HEADER = 1 << 20  # of a header, and of an encoded manifest
MAX_NAME, MAX_DIMENSIONS, MAX_BYTES = 512, 32, 1 << 50
FORMAT = "unisono/manifest/1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor.  It `travels` if clients send its change; else it is copied from model to model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    travels: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * DTYPES[self.dtype].size

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise BadMessage(f"tensor {self.name[:80]!r} {problem}")

    def _problem(self) -> str:
        if not 0 < len(self.name) <= MAX_NAME or self.name == "__metadata__":
            return f"has a name that is reserved, empty or longer than {MAX_NAME} characters"
        if any("\ud800" <= letter <= "\udfff" for letter in self.name):
            return "has a name with an unpaired surrogate, which is no Unicode text"
        if not self.name.isprintable():  # one client's names are shown on everybody's terminals
            return "has a name with characters that cannot be printed"
        if self.dtype not in DTYPES:
            return f'has the type "{self.dtype[:20]}"; known are {", ".join(DTYPES)}'
        if len(self.shape) > MAX_DIMENSIONS:
            return f"has {len(self.shape)} dimensions; at most {MAX_DIMENSIONS} are allowed"
        if any(not 0 <= extent <= MAX_BYTES for extent in self.shape) or self.bytes > MAX_BYTES:
            return "has a dimension or size that is negative or beyond any machine"
        if self.travels and not DTYPES[self.dtype].floating:
            return f"cannot travel: its elements are {self.dtype}, not floating"
        return ""


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor's place: bytes in the plain file, and its first coordinate in the travelling vector."""

    entry: Entry
    file_offset: int
    bytes: int
    start: int | None  # None: does not travel


@dataclass(frozen=True)
class Manifest:
    """The tensors of a model, kept in file order, and the names of its metrics.

    File order is that of the reference writer: element types by descending alignment (`DTYPES`), then
    names.  The order given does not matter.  Raises BadMessage for what no file could hold.
    """

    entries: tuple[Entry, ...]
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.entries, key=lambda e: (RANK[e.dtype], e.name)))
        object.__setattr__(self, "entries", ordered)
        for what, names in (("tensor", [e.name for e in ordered]), ("metric", list(self.metrics))):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise BadMessage(f'{what} "{twice[0][:80]}" appears twice in the manifest')
        if any(not 0 < len(name) <= MAX_NAME for name in self.metrics):
            raise BadMessage(f"a metric's name is empty or longer than {MAX_NAME} characters")
        if any(not name.isprintable() for name in self.metrics):
            raise BadMessage("a metric's name has characters that cannot be printed")
        if self.data_bytes > MAX_BYTES or len(self.header) > MAX_HEADER or len(self.encode()) > MAX_HEADER:
            raise BadMessage(f"a model of {len(ordered)} tensors, {self.data_bytes} bytes, is too large")

    @cached_property
    def length(self) -> int:
        """Coordinates that travel."""
        return sum(e.size for e in self.entries if e.travels)

    @cached_property
    def data_bytes(self) -> int:
        return sum(e.bytes for e in self.entries)

    @cached_property
    def header(self) -> bytes:
        """The first bytes of the plain file: 8-byte little-endian length, JSON, spaces to a multiple of 8."""
        described: dict[str, Json] = {}
        begin = 0
        for e in self.entries:
            end = begin + e.bytes
            described[e.name] = {"dtype": e.dtype, "shape": list(e.shape), "data_offsets": [begin, end]}
            begin = end
        text = write_json(described)
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @cached_property
    def file_bytes(self) -> int:
        return len(self.header) + self.data_bytes

    @cached_property
    def digest(self) -> Digest:
        return sha256_hex(self.encode())

    def encode(self) -> bytes:
        """Return canonical JSON: equal manifests have equal bytes."""
        tensors: list[Json] = [[e.name, list(e.shape), e.dtype, e.travels] for e in self.entries]
        return write_json({"format": FORMAT, "tensors": tensors, "metrics": list(self.metrics)})

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """Return the manifest that `encode` wrote.  Raises BadMessage; accepts only canonical bytes."""
        if len(data) > MAX_HEADER:
            raise BadMessage(f"manifest of {len(data)} bytes; at most {MAX_HEADER} are allowed")
        match parse_json(data, "manifest"):
            case {"format": str(known), "tensors": list(rows), "metrics": list(metrics)} if known == FORMAT:
                found = cls(tuple(_entry(row) for row in rows), tuple(_text(m) for m in metrics))
            case _:
                raise BadMessage(f"not a manifest of the form {FORMAT}")
        if found.encode() != data:
            raise BadMessage("manifest is not in canonical form")
        return found

    def difference(self, other: "Manifest") -> str | None:
        """Say in words what differs first between this manifest ("here") and another ("there")."""
        mine, theirs = ({e.name: e for e in m.entries} for m in (self, other))
        for name in sorted(mine.keys() | theirs.keys()):
            words = _entry_difference(name, mine.get(name), theirs.get(name))
            if words:
                return words
        if self.metrics != other.metrics:
            return f"metrics are {_listed(self.metrics)} here and {_listed(other.metrics)} there"
        return None

    def pieces(self) -> Iterator[Piece]:
        """Yield every tensor's place, in file order."""
        offset, start = len(self.header), 0
        for e in self.entries:
            yield Piece(e, offset, e.bytes, start if e.travels else None)
            offset += e.bytes
            start += e.size if e.travels else 0


def _entry(row: Json) -> Entry:
    match row:
        case [str(name), list(shape), str(dtype), bool(travels)]:
            return Entry(name, tuple(_extent(extent, name) for extent in shape), dtype, travels)
    raise BadMessage(f"manifest entry {row!r:.80} is not [name, shape, type, travels]")


def _extent(value: Json, name: str) -> int:
    if type(value) is not int:  # True is an int for isinstance
        raise BadMessage(f'tensor "{name[:80]}" has the dimension {value!r:.20}')
    return value


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise BadMessage(f"metric {value!r:.80} is not a name")
    return value


def _entry_difference(name: str, here: Entry | None, there: Entry | None) -> str | None:
    label = f'tensor "{name[:80]}"'
    if here is None or there is None:
        return f"{label} is missing {'here' if here is None else 'there'}"
    if here.shape != there.shape:
        return f"{label} has shape {here.shape} here and {there.shape} there"
    if here.dtype != there.dtype:
        return f"{label} has type {here.dtype} here and {there.dtype} there"
    if here.travels != there.travels:
        here_words, there_words = ("is trained" if e.travels else "is frozen" for e in (here, there))
        return f"{label} {here_words} here and {there_words} there"
    return None


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
