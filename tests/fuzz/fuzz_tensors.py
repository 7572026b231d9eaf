"""Safetensors files, manifests, the codec's layout, JSON as our formats allow it."""

import json
import re
from collections.abc import Iterator

import numpy as np
from fuzz_target import Target, refused, same

from unisono.base.errors import BadMessage, BadUpdate, Corrupt
from unisono.codec import Spec
from unisono.codec.spec import ROTATIONS, SpecPart
from unisono.tensors import Entry, Manifest, check_header, read, write
from unisono.tensors.files import plain
from unisono.tensors.header import find, header_length
from unisono.tensors.strict_json import parse_json, write_json

MANIFEST = Manifest(
    (Entry("w", (2, 3), "F32", travels=True), Entry("n", (), "I64", travels=False)), ("loss", "accuracy")
)


def _file(data: bytes) -> None:
    arrays = read(data)
    entries, pieces = plain(lambda start, count: data[start : start + count], len(data))
    once = b"".join(pieces)
    same({e.name for e in entries}, set(arrays))
    again = b"".join(plain(lambda start, count: once[start : start + count], len(once))[1])
    same(again, once)
    for name, array in read(once).items():
        same((array.shape, array.tobytes()), (arrays[name].shape, arrays[name].tobytes()))
    check_header(once, Manifest(entries))


def _with_header(data: bytes) -> None:
    """Only the JSON is given: its length is right, and the file is as long as the header wants it."""
    prefix = len(data).to_bytes(8, "little") + data
    try:
        check_header(prefix, MANIFEST)
    except BadUpdate as error:
        refused(error)
    wanted = re.search(r"end at byte (\d+)", _refusal(prefix))
    find(prefix, int(wanted[1]) if wanted else len(prefix))


def _refusal(prefix: bytes) -> str:
    try:
        find(prefix, -1)
    except BadUpdate as error:
        return str(error)
    raise AssertionError("a file of -1 bytes was taken")


def _file_seeds() -> Iterator[bytes]:
    yield write({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7, np.int64)})
    yield write({})
    text = b'{"__metadata__":{"by":"x"},"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    yield len(text).to_bytes(8, "little") + text + bytes(4)


def _header_seeds() -> Iterator[bytes]:
    for data in _file_seeds():
        yield data[8 : header_length(data[:8])]
    empty = b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    yield empty + b',"b":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}'


def _manifest(data: bytes) -> None:
    found = Manifest.decode(data)
    same(found.encode(), data)
    same(Manifest.decode(found.encode()), found)
    assert found.data_bytes >= 0
    assert found.length >= 0


def _spec(data: bytes) -> None:
    found = Spec.decode(data)
    same(found.encode(), data)
    assert 0 <= found.bytes == 8 * found.words
    for part in found.parts:
        found.offset(part.name), found.start(part.name), found.reach(part)


def _spec_seeds() -> Iterator[bytes]:
    parts = (SpecPart("w", 6, 0.5, weighted=True), SpecPart("loss.sum", 1, 2.0, weighted=False))
    for rotation in ROTATIONS:
        yield Spec(16, 4, parts, ("one", "weight"), rotation).encode()


def _strict(data: bytes) -> None:
    value = parse_json(data, "text")
    try:
        written = write_json(value)
    except ValueError:  # 1e999 reads as infinity, which no form of ours writes
        assert "inf" in repr(value)
        return
    same(parse_json(written, "text"), value)
    same(json.loads(data), value)


TARGETS = (
    Target("safetensors", _file, _file_seeds, (BadUpdate, BadMessage, Corrupt)),
    Target("safetensors_header", _with_header, _header_seeds, (BadUpdate,)),
    Target("manifest", _manifest, lambda: (MANIFEST.encode(), Manifest(()).encode()), (BadMessage,)),
    Target("spec", _spec, _spec_seeds, (BadMessage,)),
    Target(
        "strict_json", _strict, lambda: (b'{"a":[1,2.5,"x",null,true],"b":{}}', b"[1e308]"), (BadMessage,)
    ),
)
