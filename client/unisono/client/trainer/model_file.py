"""Models on this site's disk: sealed at rest, moved to and from the model in memory as streams."""

from collections.abc import Iterator
from pathlib import Path

from unisono.base.errors import BadUpdate
from unisono.base.ids import Digest
from unisono.crypto import AtRest, Sha256, system_entropy
from unisono.tensors import DTYPES, Bytes, Manifest, Reader, check_header
from unisono.tensors.vector import read_elements

from .at_rest import SealedWriter, whole
from .context import cached
from .failures import Failed
from .model import STEP, Held


def save(held: Held, manifest: Manifest, path: Path, at_rest: AtRest) -> Digest:
    """Write the model at rest; return its digest, that of the plain file."""
    plain = Sha256()
    for raw in _plain(held, manifest):
        plain.update(raw)
    digest = plain.hexdigest()
    with whole(path) as file:
        writer = SealedWriter(file, *at_rest.new(system_entropy, cached(digest)))
        for raw in _plain(held, manifest):
            writer.write(raw)
        writer.finish()
    return digest


def _plain(held: Held, manifest: Manifest) -> Iterator[Bytes]:
    yield manifest.header
    for piece in manifest.pieces():
        for begin in range(0, piece.entry.size, STEP):
            yield held.raw(piece.entry.name, begin, min(begin + STEP, piece.entry.size))


def load(held: Held, manifest: Manifest, read: Reader) -> None:
    """Store a plain file's tensors into the model.  Raises Failed if it is another, Corrupt if damaged."""
    header = bytes(read(0, len(manifest.header)))
    try:
        check_header(header, manifest)
    except BadUpdate as differs:
        raise Failed("model_differs", str(differs)) from differs
    held.reset()
    for piece in manifest.pieces():
        step = STEP * 4 // DTYPES[piece.entry.dtype].size
        for begin in range(0, piece.entry.size, step):
            end = min(begin + step, piece.entry.size)
            held.store(piece.entry.name, begin, read_elements(read, piece, begin, end))
