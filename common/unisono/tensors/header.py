"""The header of a safetensors file from somebody else.

Format: https://huggingface.co/docs/safetensors.  Eight bytes of length (little-endian), that many bytes
of JSON, then the data.  Read with distrust: the length is checked before anything is allocated for it,
and the tensors must cover the data exactly, without overlaps (two names for one place) or holes (a
place to hide bytes that change the digest and nothing else).
"""

from dataclasses import dataclass

from unisono.base.errors import BadMessage, BadUpdate

from .dtypes import DTYPES
from .manifest import MAX_HEADER, Entry, Manifest
from .strict_json import Json, parse_json


@dataclass(frozen=True, slots=True)
class Found:
    """A tensor as a header describes it; `begin` is a byte offset in the file."""

    entry: Entry
    begin: int


def header_length(first8: bytes) -> int:
    """Return the bytes of length and JSON together.  Raises BadUpdate beyond 1 MiB."""
    if len(first8) < 8:
        raise BadUpdate(f"a file of {len(first8)} bytes is no safetensors file")
    length = int.from_bytes(first8[:8], "little")
    if not 2 <= length <= MAX_HEADER - 8:
        raise BadUpdate(f"a safetensors header of {length} bytes; 2 to {MAX_HEADER - 8} are allowed")
    return 8 + length


def parse_header(prefix: bytes, file_bytes: int) -> tuple[Entry, ...]:
    """Return the tensors of a file of `file_bytes` bytes that begins with `prefix`, in the file's order.

    Floating tensors are taken to travel: a file does not say what is frozen.  Raises BadUpdate.
    """
    return tuple(found.entry for found in find(prefix, file_bytes))


def check_header(prefix: bytes, manifest: Manifest) -> None:
    """Refuse a file whose header is not, byte for byte, the one of the run's manifest.

    A model's digest is that of its plain file, so equal tensors in another order are another file.
    Raises BadUpdate that names the first difference.
    """
    expected = manifest.header
    if prefix[: len(expected)] == expected:
        return
    frozen = {e.name for e in manifest.entries if not e.travels}
    entries = (f.entry for f in _places(prefix))
    here = tuple(Entry(e.name, e.shape, e.dtype, e.travels and e.name not in frozen) for e in entries)
    difference = Manifest(here, manifest.metrics).difference(manifest)
    raise BadUpdate(
        f"the file does not fit the run's manifest: "
        f"{difference or 'equal tensors, but another order or added metadata'} "
        f'("here" is the file, "there" the manifest)'
    )


def find(prefix: bytes, file_bytes: int) -> tuple[Found, ...]:
    """As parse_header, with the place of every tensor."""
    found = _places(prefix)
    end = found[-1].begin + found[-1].entry.bytes if found else header_length(prefix)
    if end != file_bytes:
        raise BadUpdate(f"the tensors end at byte {end}, the file at byte {file_bytes}")
    return found


def _places(prefix: bytes) -> tuple[Found, ...]:
    end = header_length(prefix)
    if len(prefix) < end:
        raise BadUpdate(f"the safetensors header is cut: {len(prefix)} of {end} bytes")
    try:
        found = _described(parse_json(prefix[8:end], "safetensors header"), end)
    except BadMessage as problem:
        raise BadUpdate(str(problem)) from None
    for tensor in found:
        if tensor.begin != end:
            raise BadUpdate(f'tensor "{tensor.entry.name[:80]}" begins at byte {tensor.begin}, not at {end}')
        end += tensor.entry.bytes
    return found


def _described(header: Json, start: int) -> tuple[Found, ...]:
    if not isinstance(header, dict):
        raise BadUpdate("the safetensors header is not a JSON object")
    found = [_tensor(name, value, start) for name, value in header.items() if name != "__metadata__"]
    _check_metadata(header.get("__metadata__", {}))
    return tuple(sorted(found, key=lambda f: (f.begin, f.entry.bytes)))  # empty tensors before the next


def _tensor(name: str, value: Json, start: int) -> Found:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end], **rest} if not rest:
            extents = tuple(e for e in shape if type(e) is int)
            if len(extents) != len(shape) or type(begin) is not int or type(end) is not int:
                raise BadUpdate(f'tensor "{name[:80]}" has a shape or place that is no whole number')
        case _:
            raise BadUpdate(f'tensor "{name[:80]}" is not described by dtype, shape and data_offsets')
    entry = Entry(name, extents, dtype, dtype in DTYPES and DTYPES[dtype].floating)
    if end - begin != entry.bytes:
        raise BadUpdate(f'tensor "{name[:80]}" takes {end - begin} bytes; its shape needs {entry.bytes}')
    return Found(entry, start + begin)


def _check_metadata(metadata: Json) -> None:
    if not isinstance(metadata, dict) or any(not isinstance(v, str) for v in metadata.values()):
        raise BadUpdate("the safetensors metadata is not a map of texts")
