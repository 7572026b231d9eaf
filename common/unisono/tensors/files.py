"""Whole files: small ones in memory, and any safetensors file made plain.

`write` and `read` are for tests and for tasks in NumPy; models of any size go through `Travelling` and
`plain`.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate, Corrupt

from .dtypes import DTYPES, Bytes, to_float32
from .header import find, header_length
from .manifest import Entry, Manifest
from .vector import Reader

SLICE = 1 << 20
_NAMES = {np.dtype(d.storage): d.name for d in DTYPES.values() if d.name != "BF16"}


def write(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return the plain safetensors file of some arrays.  Raises BadUpdate for a type it has no name for."""
    entries = []
    for name, array in arrays.items():
        dtype = _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise BadUpdate(f'array "{name}" has the type {array.dtype}; known are {", ".join(DTYPES)}')
        entries.append(Entry(name, array.shape, dtype, DTYPES[dtype].floating))
    manifest = Manifest(tuple(entries))
    stored = (arrays[e.name].astype(DTYPES[e.dtype].storage, copy=False).tobytes() for e in manifest.entries)
    return b"".join((manifest.header, *stored))


def read(data: Bytes) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a safetensors file as read-only views; bfloat16 comes as float32.

    Raises BadUpdate if it is not one.
    """
    view = memoryview(data)
    prefix = bytes(view[: header_length(bytes(view[:8]))])
    found: dict[str, NDArray[np.generic]] = {}
    for tensor in find(prefix, len(view)):
        e = tensor.entry
        raw = view[tensor.begin : tensor.begin + e.bytes]
        flat: NDArray[np.generic] = (
            to_float32(raw, e.dtype) if e.dtype == "BF16" else np.frombuffer(raw, DTYPES[e.dtype].storage)
        )
        found[e.name] = flat.reshape(e.shape)
    return found


def plain(source: Reader, file_bytes: int) -> tuple[tuple[Entry, ...], Iterator[bytes]]:
    """Return the tensors of any safetensors file, and the bytes of the plain file with the same tensors.

    Metadata is dropped and the tensors are put in file order, as a model that a person brings
    (`[model] init`) needs before it has a digest.  The bytes come in slices of at most 1 MiB.
    Raises BadUpdate.
    """
    first8 = bytes(source(0, min(8, file_bytes)))
    length = header_length(first8)
    if length > file_bytes:
        raise BadUpdate(f"a safetensors header of {length} bytes in a file of {file_bytes} bytes")
    found = find(bytes(source(0, length)), file_bytes)
    places = {f.entry.name: f.begin for f in found}
    manifest = Manifest(tuple(f.entry for f in found))
    return manifest.entries, _copied(source, manifest, places)


def _copied(source: Reader, manifest: Manifest, places: Mapping[str, int]) -> Iterator[bytes]:
    yield manifest.header
    for e in manifest.entries:
        for done in range(0, e.bytes, SLICE):
            wanted = min(SLICE, e.bytes - done)
            data = bytes(source(places[e.name] + done, wanted))
            if len(data) != wanted:
                raise Corrupt(f'the file ends inside tensor "{e.name}"')
            yield data
