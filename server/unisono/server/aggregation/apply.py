"""The pass that makes the next model: sum, old model and state in; new model and new state out.

It walks the plain file in order.  The travelling vector is worked on in blocks of `CHUNK` coordinates
(whole words of the sum, whatever the lane width); what does not travel is copied.  Memory is a few
blocks, whatever the model; only a part that was rotated is turned back as a whole.  No block depends on
another, so the bytes depend on nothing but the inputs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel

from unisono.base.errors import BadConfiguration, Corrupt, Fault
from unisono.codec import CHUNK, Spec, Together, in_turn
from unisono.strategies import State, Strategy, Sums, Vector
from unisono.tensors import (
    Bytes,
    Manifest,
    Piece,
    Reader,
    Travelling,
    check_finite,
    from_float32,
    read_elements,
    to_float32,
)

from .cutting import Cutter
from .means import Means, read_words
from .outcome import Outcome, read_head

SEGMENT = 1 << 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a new model follows from.

    `model` reads the plain file of the round's model, `sums` the summed vector (little-endian words),
    `states` the strategy's state vectors (little-endian float32).  A state without a reader is new and
    starts at the strategy's `init`.
    """

    spec: Spec
    manifest: Manifest
    strategy: Strategy[BaseModel]
    parameters: BaseModel
    survivors: int
    model: Reader
    sums: Reader
    states: Mapping[str, Reader]
    signs: bytes = b""  # key of the rotation, if the spec has one (`codec.rotation_stream`)
    together: Together = in_turn  # how a rotated part is turned back


@dataclass(frozen=True, slots=True)
class Produced:
    """The next bytes of the new model's plain file, or of a state vector if `state` names one."""

    state: str | None
    data: bytes


class Apply:
    """One pass.  Iterate once; then `outcome` says the rest.

    Each stream comes in slices of exactly `segment` bytes, the last may be shorter.  Raises BadUpdate if
    the sum cannot be one of `survivors` clients or the result is not finite: nothing of what came before
    may then be kept.
    """

    def __init__(self, inputs: Inputs, segment: int = SEGMENT) -> None:
        self._in = inputs
        _check_parts(inputs)
        head = read_words(inputs.sums, inputs.spec.head_offset, len(inputs.spec.head))
        self._head = read_head(inputs.spec, head, inputs.survivors)
        self._divisors = {
            p.name: self._head.weight if p.weighted else float(inputs.survivors) for p in inputs.spec.parts
        }
        self._means = {
            p.name: Means(inputs.spec, p, inputs.survivors, self._divisors[p.name], inputs.sums)
            for p in inputs.spec.parts
        }
        if inputs.spec.rotation != "none":
            for means in self._means.values():
                means.turn(inputs.signs, inputs.together)
        self._old = Travelling(inputs.manifest, inputs.model)
        names = inputs.strategy.state(inputs.parameters)
        self._cutters: dict[str | None, Cutter] = {name: Cutter(segment) for name in (None, *names)}
        self._started = self._finished = False

    @property
    def outcome(self) -> Outcome:
        """Weight, metrics and norms.  Raises Fault before the pass is over."""
        if not self._finished:
            raise Fault("the outcome of a round is known when its model is written")
        norms = {
            name: math.sqrt(means.squares) * self._divisors[name] / self._in.survivors
            for name, means in self._means.items()
        }
        return replace(self._head, mean_norm=norms)

    def __iter__(self) -> Iterator[Produced]:
        if self._started:
            raise Fault("a pass over a round's sum runs once; make a new Apply")
        self._started = True
        yield from self._cut(None, self._in.manifest.header)
        block, model, fresh = -1, np.empty(0, np.float32), np.empty(0, np.float32)
        for piece in self._in.manifest.pieces():
            for begin, end in _slices(piece):
                if piece.start is None:
                    yield from self._cut(None, read_elements(self._in.model, piece, begin, end))
                    continue
                first = piece.start + begin
                if first // CHUNK != block:
                    block = first // CHUNK
                    state, model, fresh = self._block(block * CHUNK)
                    for kept, vector in state.items():
                        yield from self._cut(kept, vector.astype("<f4", copy=False).tobytes())
                here = slice(first - block * CHUNK, first - block * CHUNK + end - begin)
                yield from self._cut(None, self._stored(piece, begin, model[here], fresh[here]))
        for name, cutter in self._cutters.items():
            yield from (Produced(name, data) for data in cutter.rest())
        self._finished = True

    def _cut(self, stream: str | None, data: Bytes) -> Iterator[Produced]:
        return (Produced(stream, piece) for piece in self._cutters[stream].push(data))

    def _block(self, start: int) -> tuple[State, Vector, Vector]:
        """Return the next state, the old model and the next model of the block that begins at `start`."""
        stop = min(start + CHUNK, self._old.length)
        model = _frozen(self._old.values(start, stop))
        sums = Sums(
            {name: _frozen(means.read(start, stop)) for name, means in self._means.items()},
            self._head.weight,
            self._in.survivors,
        )
        strategy, p = self._in.strategy, self._in.parameters
        state, fresh = strategy.apply(p, self._state(start, stop, model), model, sums)
        if state.keys() != set(strategy.state(p)):
            raise BadConfiguration(f'strategy "{strategy.name}" returned the state {sorted(state)}')
        for what, vector in (("next model", fresh), *state.items()):
            self._check(vector, model, f"{what} from coordinate {start}")
        return state, model, fresh

    def _state(self, start: int, stop: int, model: Vector) -> State:
        found: State = {}
        for name in self._in.strategy.state(self._in.parameters):
            read = self._in.states.get(name)
            if read is None:
                vector = self._in.strategy.init(self._in.parameters, name, model)
            else:
                raw = read(4 * start, 4 * (stop - start))
                if len(raw) != 4 * (stop - start):
                    raise Corrupt(f'the state "{name}" ends before coordinate {stop}')
                vector = to_float32(raw, "F32").copy()  # the reader may use its buffer again
            self._check(vector, model, f"{name} from coordinate {start}")
            found[name] = _frozen(vector)
        return found

    def _check(self, vector: Vector, like: Vector, what: str) -> None:
        if vector.shape != like.shape or vector.dtype != np.float32:
            found, wanted = f"{vector.dtype}{vector.shape}", f"float32{like.shape}"
            raise BadConfiguration(f'strategy "{self._in.strategy.name}": {what} is {found}, not {wanted}')
        check_finite(vector, what)

    def _stored(self, piece: Piece, begin: int, old: Vector, new: Vector) -> Bytes:
        """Return new elements as the tensor stores them, rounded from float32."""
        dtype = piece.entry.dtype
        if dtype == "F64":  # only the change is float32: what did not change keeps all its digits
            exact = np.frombuffer(read_elements(self._in.model, piece, begin, begin + new.size), "<f8")
            return (exact + (new.astype(np.float64) - old)).tobytes()
        raw = from_float32(new, dtype)
        if dtype != "F32":
            check_finite(
                to_float32(raw, dtype), f'next "{piece.entry.name}" in {dtype}, from element {begin}'
            )
        return raw


def _check_parts(inputs: Inputs) -> None:
    wanted = tuple(
        (p.name, p.length, p.weighted == "examples")
        for p in inputs.strategy.parts(inputs.parameters, inputs.manifest)
    )
    if wanted != tuple((p.name, p.length, p.weighted) for p in inputs.spec.parts):
        raise Fault(f'the spec of the round does not have the parts of strategy "{inputs.strategy.name}"')
    for name, length, _ in wanted:
        if length != inputs.manifest.length:
            raise BadConfiguration(
                f'strategy "{inputs.strategy.name}": part "{name}" has {length} coordinates; '
                f"a part is as long as the model's travelling vector, {inputs.manifest.length}"
            )


def _slices(piece: Piece) -> Iterator[tuple[int, int]]:
    """Cut a tensor's elements where blocks of the vector end, or, if it is copied, anywhere."""
    start, begin = piece.start or 0, 0
    while begin < piece.entry.size:
        end = min(piece.entry.size, ((start + begin) // CHUNK + 1) * CHUNK - start)
        yield begin, end
        begin = end


def _frozen(vector: Vector) -> Vector:
    vector.flags.writeable = False
    return vector
