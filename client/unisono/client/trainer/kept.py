"""From a trained model to the vector that stays here until it is masked: rotated, clipped, quantised.

    received file  \
                     delta -> one float32 part -> rotation -> lanes -> at-rest segments -> file
    trained model  /

A rotation mixes all coordinates of a part, so one part is in memory as a whole; the buffer is the largest
part's and serves all.  The words are those of the codec and of nothing else: a repeated attempt of the
round, or a repeated run of the plan, gives the same file content.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisono.codec import (
    CHUNK,
    Encoder,
    Rotation,
    Spec,
    SpecPart,
    clipped_weight,
    encode_head,
    norm,
)
from unisono.crypto import AtRest, Sha256, Stream, system_entropy
from unisono.tensors import check_finite

from .at_rest import SealedWriter, whole
from .failures import finite
from .update import Vector, Written, gather, places


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where a vector is kept: the file, the site's key and what the file is bound to."""

    path: Path
    at_rest: AtRest
    context: bytes


def keep(
    shelf: Shelf, spec: Spec, vector: Vector, signs: bytes, progress: Callable[[int, int], None]
) -> Written:
    """Write lanes and head; `signs` is the key of `rotation_stream`.  Raises Failed ("not_finite").

    Returns the digest and size of the plain words, which are `spec.bytes`.
    """
    plain, size, total = Sha256(), 0, sum(map(spec.coordinates, spec.parts))
    with whole(shelf.path) as file:
        writer = SealedWriter(file, *shelf.at_rest.new(system_entropy, shelf.context))
        with finite():
            for done, words in _words(spec, vector, signs):
                plain.update(words)
                writer.write(words)
                size += words.nbytes
                progress(done, total)
        writer.finish()
    return Written(plain.hexdigest(), size)


def _words(spec: Spec, vector: Vector, signs: bytes) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield (coordinates until now, words), the head last; the words are overwritten."""
    random = Stream(vector.rounding)
    buffer = np.empty(max(map(spec.coordinates, spec.parts), default=0), np.float32)
    done = 0
    for part in spec.parts:
        values = buffer[: spec.coordinates(part)]
        _fill(values, part, vector)
        if spec.rotation != "none":
            Rotation(signs, part.length, spec.start(part.name)).forward(values)
        for stop, words in _encoded(spec, part, _encoder(spec, part, vector, values), values, random):
            yield done + stop, words
        done += values.size
    yield done, encode_head(vector.head, spec)


def _fill(values: NDArray[np.float32], part: SpecPart, vector: Vector) -> None:
    """Gather a part; what pads it is zeros.  Raises BadUpdate before a rotation could spread a NaN."""
    values[part.length if part.name in vector.sources else 0 :] = 0
    if part.name not in vector.sources:
        return
    travelling = places(vector.manifest)
    for start in range(0, part.length, CHUNK):
        x = values[start : min(start + CHUNK, part.length)]
        gather(vector.sources[part.name], travelling.overlaps(start, start + x.size), x)
        check_finite(x, f'part "{part.name}" of the update from coordinate {start}')


def _encoder(spec: Spec, part: SpecPart, vector: Vector, values: NDArray[np.float32]) -> Encoder:
    """Return the encoder whose weight keeps the rotated part within its bound."""
    weight = vector.head["weight"] if part.weighted else 1.0
    if spec.rotation != "none":
        weight = clipped_weight(weight, norm(values), part.bound)
    return Encoder(spec, part, weight)


def _encoded(
    spec: Spec, part: SpecPart, encoder: Encoder, values: NDArray[np.float32], random: Stream
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    bits, out = np.empty(CHUNK, "<u4"), np.empty(CHUNK, np.uint64)
    for start in range(0, values.size, CHUNK):
        x = values[start : start + CHUNK]
        u = bits[: x.size]
        random.fill(u)
        words = out[: spec.word_range(part.name, start, start + x.size)[1]]
        encoder.encode(x, u, words)
        yield start + x.size, words
