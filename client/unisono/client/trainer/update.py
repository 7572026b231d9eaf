"""From a trained model to the file that travels sealed, in one pass and O(chunk) memory.

    received file (sealed at rest) \
                                    delta -> float32 -> lanes -> sealed segments -> file
    trained model (in memory)      /

The deltas never exist as a whole: no second copy of the model is made.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import Fault
from unisono.base.ids import Digest
from unisono.codec import CHUNK, Encoder, Spec, SpecPart, encode_head
from unisono.crypto import Stream, seal_to, system_entropy
from unisono.tensors import Bytes, Manifest, Piece, Reader, Travelling, to_float32
from unisono.tensors.vector import read_elements

from .at_rest import Hashed, SealedWriter, whole
from .failures import finite
from .model import Held
from .requests import Seal

# Coordinates begin..end of one tensor, as float32: a delta, a gradient, what a strategy's part holds.
Source = Callable[[Piece, int, int], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Vector:
    """What a client sends: a source for each part (none: zeros), the head's numbers, the rounding's key."""

    manifest: Manifest
    sources: Mapping[str, Source]
    head: Mapping[str, float]
    rounding: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: of a sealed update the file as it travels, of a kept one its plain words."""

    sha256: Digest
    bytes: int


def delta(held: Held, received: Reader) -> Source:
    """Return trained minus received.  float64 is subtracted as such, other types in float32."""

    def source(piece: Piece, begin: int, end: int) -> NDArray[np.float32]:
        new = _wide(held.raw(piece.entry.name, begin, end), piece.entry.dtype)
        old = _wide(read_elements(received, piece, begin, end), piece.entry.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused by name in the codec
            return (new - old).astype(np.float32, copy=False)

    return source


def write(
    path: Path, spec: Spec, vector: Vector, seal: Seal, progress: Callable[[int, int], None]
) -> Written:
    """Write the sealed update.  Raises Failed ("not_finite")."""
    random = Stream(vector.rounding)
    total = sum(part.length for part in spec.parts)
    with whole(path) as raw:
        file = Hashed(raw)
        writer = SealedWriter(file, *seal_to(seal.public, seal.context, system_entropy))
        with finite():
            for part in spec.parts:
                for stop, words in _encoded(spec, part, vector, random):
                    writer.write(words)
                    progress(spec.start(part.name) + stop, total)
            writer.write(encode_head(vector.head, spec))
        writer.finish()
        return Written(file.sha256, file.bytes)


def _encoded(
    spec: Spec, part: SpecPart, vector: Vector, random: Stream
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield (coordinates until now, words) of one part, a chunk at a time; the words are overwritten."""
    travelling = places(vector.manifest)
    encoder = Encoder(spec, part, vector.head["weight"] if part.weighted else 1.0)
    values, bits = np.zeros(CHUNK, np.float32), np.empty(CHUNK, "<u4")
    out = np.empty(CHUNK, np.uint64)
    for start in range(0, part.length, CHUNK):
        stop = min(start + CHUNK, part.length)
        x, u = values[: stop - start], bits[: stop - start]
        random.fill(u)
        if part.name in vector.sources:
            gather(vector.sources[part.name], travelling.overlaps(start, stop), x)
        words = out[: spec.word_range(part.name, start, stop)[1]]
        encoder.encode(x, u, words)
        yield stop, words


def places(manifest: Manifest) -> Travelling:
    """Return what knows which tensor a coordinate is of, and reads nothing."""
    return Travelling(manifest, _no_reader)


def gather(source: Source, pieces: Iterator[tuple[Piece, int, int]], out: NDArray[np.float32]) -> None:
    """Fill `out` with the coordinates of some stretches of tensors."""
    filled = 0
    for piece, begin, end in pieces:
        out[filled : filled + end - begin] = source(piece, begin, end)
        filled += end - begin


def _wide(raw: Bytes, dtype: str) -> NDArray[np.floating]:
    return np.frombuffer(raw, "<f8") if dtype == "F64" else to_float32(raw, dtype)


def _no_reader(offset: int, length: int) -> bytes:
    raise Fault("the layout of an update was asked for bytes; it only knows places")
