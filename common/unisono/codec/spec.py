"""The spec of a round's vector: what every client must do alike for the sums to mean something.

Every client computes it itself, from plan and public values, and compares.  Nothing in it depends on
the attempt.  The vector is lanes, part after part, then the head:

    | part 0: word_count(coordinates) words | part 1 ... | head: one word a number |

A rotated part has its length padded to whole blocks (`rotation`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from unisono.base.errors import BadMessage, BadUpdate
from unisono.base.ids import Digest
from unisono.crypto.digest import sha256_hex
from unisono.tensors import Json, parse_json, write_json

from .lanes import LANES, per_word, word_count
from .rotation import padded
from .widths import KAPPA, levels_of

FORMAT = "unisono/spec/1"
MAX_SPEC = 1 << 20
SMALLEST_BOUND, LARGEST_BOUND = 1e-30, 1e30  # so that Q / bound times any float32 is finite
RotationKind: TypeAlias = Literal["none", "hadamard"]
ROTATIONS: tuple[RotationKind, ...] = ("none", "hadamard")
Canonical = bytes  # inside Spec, `bytes` is its size


@dataclass(frozen=True, slots=True)
class SpecPart:
    """One float vector of `length` coordinates.

    `bound` is, after weighting, the largest |coordinate|, or of a rotated part the largest length (L2).
    """

    name: str
    length: int
    bound: float
    weighted: bool


@dataclass(frozen=True)
class Spec:
    """Raises BadMessage for what cannot be added without overflow."""

    lanes: int
    clients: int
    parts: tuple[SpecPart, ...]
    head: tuple[str, ...]
    rotation: RotationKind = "none"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise BadMessage(f"spec: {problem}")

    def _problem(self) -> str:
        if self.lanes not in LANES:
            return f"lanes of {self.lanes} bits; known are {', '.join(map(str, LANES))}"
        if self.clients < 1 or self.levels < 1:
            return f"the sum of {self.clients} clients does not fit lanes of {self.lanes} bits"
        if self.rotation != "none" and self.lanes not in KAPPA:
            return f"a rotated vector in lanes of {self.lanes} bits; it may have {', '.join(map(str, KAPPA))}"
        if len({p.name for p in self.parts}) != len(self.parts) or len(set(self.head)) != len(self.head):
            return "a part or a number of the head is named twice"
        for p in self.parts:
            if p.length < 0 or not SMALLEST_BOUND <= p.bound <= LARGEST_BOUND:
                return f'part "{p.name[:80]}" has length {p.length} and bound {p.bound}'
        return ""

    @cached_property
    def levels(self) -> int:
        """Q: a coordinate becomes an integer in [-Q, Q].

        It is sent as 0..2Q, so the sum of n clients is at most 2nQ; the largest Q with 2nQ + 1 <= 2^w
        never carries, whatever the clients send within their range (reference 5.1).
        """
        return levels_of(self.lanes, self.clients)

    @cached_property
    def words(self) -> int:
        return self.head_offset + len(self.head)

    @property
    def bytes(self) -> int:
        return 8 * self.words

    @cached_property
    def head_offset(self) -> int:
        """First word of the head."""
        return sum(map(self._words_of, self.parts))

    def coordinates(self, part: SpecPart) -> int:
        """Return how many coordinates of a part travel: its length, padded if it is rotated."""
        return part.length if self.rotation == "none" else padded(part.length)

    def reach(self, part: SpecPart) -> float:
        """Return the largest |coordinate| that does not get clamped: Q steps."""
        if self.rotation == "none":
            return part.bound
        return KAPPA[self.lanes] * part.bound / math.sqrt(max(1, self.coordinates(part)))

    def part(self, name: str) -> SpecPart:
        for p in self.parts:
            if p.name == name:
                return p
        raise BadUpdate(f'there is no part "{name}" in the spec')

    def offset(self, name: str) -> int:
        """Return the first word of a part."""
        return sum(map(self._words_of, self._before(name)))

    def start(self, name: str) -> int:
        """Return the coordinates of all parts before this one: its place in the streams of random bits."""
        return sum(map(self.coordinates, self._before(name)))

    def word_range(self, name: str, start: int, stop: int) -> tuple[int, int]:
        """Return (first word, words) of coordinates start..stop of a part; start begins a word."""
        if start % per_word(self.lanes):
            raise ValueError(f"coordinate {start} does not begin a word of {per_word(self.lanes)} lanes")
        return self.offset(name) + start // per_word(self.lanes), word_count(stop - start, self.lanes)

    def _words_of(self, part: SpecPart) -> int:
        return word_count(self.coordinates(part), self.lanes)

    def _before(self, name: str) -> Iterator[SpecPart]:
        wanted = self.parts.index(self.part(name))
        return iter(self.parts[:wanted])

    @cached_property
    def digest(self) -> Digest:
        return sha256_hex(self.encode())

    def encode(self) -> Canonical:
        """Return canonical JSON; a float is written with the fewest digits that name it exactly."""
        parts: list[Json] = [[p.name, p.length, p.bound, p.weighted] for p in self.parts]
        return write_json(
            {
                "format": FORMAT,
                "lanes": self.lanes,
                "clients": self.clients,
                "parts": parts,
                "head": list(self.head),
                "rotation": self.rotation,
            }
        )

    @classmethod
    def decode(cls, data: Canonical) -> "Spec":
        """Return the spec that `encode` wrote.  Raises BadMessage; accepts only canonical bytes."""
        if len(data) > MAX_SPEC:
            raise BadMessage(f"spec of {len(data)} bytes; at most {MAX_SPEC} are allowed")
        match parse_json(data, "spec"):
            case {
                "format": str(known),
                "lanes": lanes,
                "clients": clients,
                "parts": list(parts),
                "head": list(head),
                "rotation": str(kind),
            } if known == FORMAT:
                rows, names = tuple(map(_part, parts)), tuple(map(_text, head))
                found = cls(_whole(lanes), _whole(clients), rows, names, _rotation(kind))
            case _:
                raise BadMessage(f"not a spec of the form {FORMAT}")
        if found.encode() != data:
            raise BadMessage("spec is not in canonical form")
        return found


def _part(row: Json) -> SpecPart:
    match row:
        case [str(name), length, float(bound), bool(weighted)]:
            return SpecPart(name, _whole(length), bound, weighted)
    raise BadMessage(f"spec part {row!r:.80} is not [name, length, bound, weighted]")


def _rotation(value: str) -> RotationKind:
    for kind in ROTATIONS:
        if value == kind:
            return kind
    raise BadMessage(f'spec: rotation "{value:.80}"; known are {", ".join(ROTATIONS)}')


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise BadMessage(f"head entry {value!r:.80} is not a name")
    return value


def _whole(value: Json) -> int:
    if type(value) is not int:  # True is an int for isinstance
        raise BadMessage(f"spec: {value!r:.80} is not a whole number")
    return value
