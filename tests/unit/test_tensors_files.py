"""Our files held against the reference reader and writer (safetensors, with NumPy and with torch)."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate, Corrupt
from unisono.tensors import (
    Entry,
    Manifest,
    Travelling,
    check_header,
    from_float32,
    norm,
    parse_header,
    plain,
    read,
    to_float32,
    write,
)

PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
NAMES = st.text(PRINTABLE, min_size=1, max_size=10)
TYPES = ["<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "u1", "?"]
arrays = st.dictionaries(
    NAMES,
    hnp.arrays(
        st.sampled_from([np.dtype(t) for t in TYPES]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    max_size=6,
)


def reader(data: bytes):  # type: ignore[no-untyped-def]  # the Reader of an in-memory file
    return lambda offset, length: data[offset : offset + length]


def same(ours: dict[str, NDArray[np.generic]], theirs: dict[str, NDArray[np.generic]]) -> bool:
    return ours.keys() == theirs.keys() and all(
        a.shape == theirs[n].shape and a.dtype == theirs[n].dtype and a.tobytes() == theirs[n].tobytes()
        for n, a in ours.items()
    )


@given(arrays)
def test_our_bytes_are_the_reference_writers_bytes(found: dict[str, NDArray[np.generic]]) -> None:
    ours = write(found)
    theirs = safetensors.numpy.save({n: a.copy(order="C") for n, a in found.items()})
    assert ours == theirs
    assert same(safetensors.numpy.load(ours), found)
    assert same(read(theirs), found)


def test_torch_loads_our_file_and_we_load_torchs(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 5, dtype=torch.bfloat16),
        "layer.weight": torch.randn(4, 2),
        "layer.scale": torch.tensor(2.5),
        "steps": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "f16": torch.randn(3, dtype=torch.float16),
    }
    entries = parse_header(safetensors.torch.save(tensors), len(safetensors.torch.save(tensors)))
    manifest = Manifest(entries)
    data = manifest.header + b"".join(
        tensors[e.name].reshape(-1).view(torch.uint8).numpy().tobytes() for e in manifest.entries
    )
    assert data == safetensors.torch.save(tensors)
    (tmp_path / "model.safetensors").write_bytes(data)
    loaded = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(loaded[n], t) and loaded[n].dtype == t.dtype for n, t in tensors.items())
    assert np.array_equal(read(data)["half"], tensors["half"].float().numpy())


def test_a_persons_file_is_made_plain() -> None:
    tensors = {"b": torch.randn(5), "a": torch.randn(2, 2, dtype=torch.float64), "n": torch.tensor(3)}
    marked = safetensors.torch.save(tensors, metadata={"format": "pt"})
    entries, chunks = plain(reader(marked), len(marked))
    data = b"".join(chunks)
    assert data == safetensors.torch.save(tensors)
    check_header(data, Manifest(entries))
    with pytest.raises(BadUpdate, match="tensors end at"):
        plain(reader(marked), len(marked) + 1)
    with pytest.raises(BadUpdate, match="in a file of 20 bytes"):
        plain(reader(marked[:20]), 20)


def test_making_plain_slices_and_notices_a_file_that_shrinks() -> None:
    data = write({"a": np.arange(700_000, dtype=np.float32)})
    entries, chunks = plain(reader(data), len(data))
    assert [e.name for e in entries] == ["a"]
    slices = list(chunks)
    assert b"".join(slices) == data
    assert max(map(len, slices)) == 1 << 20
    with pytest.raises(Corrupt, match='inside tensor "a"'):
        list(plain(reader(data[:-1]), len(data))[1])


def test_types_without_a_name_are_refused() -> None:
    with pytest.raises(BadUpdate, match="complex64"):
        write({"a": np.zeros(2, np.complex64)})


@st.composite
def models(draw: st.DrawFn) -> tuple[Manifest, bytes, NDArray[np.float32]]:
    """A manifest, its file, and the travelling vector made the slow way."""
    entries, rng = [], np.random.default_rng(draw(st.integers(0, 99)))
    for k in range(draw(st.integers(0, 6))):
        dtype = draw(st.sampled_from(["F64", "F32", "F16", "BF16", "I64", "U8"]))
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        entries.append(Entry(f"t{k}", shape, dtype, dtype[0] in "FB" and draw(st.booleans())))
    manifest, data, vector = Manifest(tuple(entries)), [], []
    for e in manifest.entries:
        if e.dtype in ("I64", "U8"):
            data.append(rng.bytes(e.bytes))
            continue
        data.append(from_float32(rng.standard_normal(e.size).astype(np.float32), e.dtype))
        if e.travels:
            vector.append(to_float32(data[-1], e.dtype))
    joined = np.concatenate([*vector, np.zeros(0, np.float32)])
    return manifest, manifest.header + b"".join(data), joined


@given(models(), st.data())
def test_any_stretch_of_the_vector_is_the_stretch_of_the_whole(
    model: tuple[Manifest, bytes, NDArray[np.float32]], data: st.DataObject
) -> None:
    manifest, file, vector = model
    assert vector.size == manifest.length
    start = data.draw(st.integers(0, manifest.length))
    stop = data.draw(st.integers(start, manifest.length))
    travelling = Travelling(manifest, reader(file))
    assert np.array_equal(travelling.values(start, stop), vector[start:stop])
    block = data.draw(st.integers(1, 9))
    assert np.isclose(norm(manifest, reader(file), block), np.linalg.norm(vector.astype(np.float64)))


def test_a_stretch_names_what_is_wrong_with_the_file() -> None:
    values = np.array([1, 2, np.nan], np.float32)
    data = write({"fc.weight": values})
    travelling = Travelling(Manifest(parse_header(data, len(data))), reader(data))
    assert travelling.values(0, 2).tolist() == [1, 2]
    with pytest.raises(BadUpdate, match=r"\"fc\.weight\" from element 1: value 1 is nan"):
        travelling.values(1, 3)
    with pytest.raises(ValueError, match=r"2\.\.4 of a vector of 3"):
        travelling.values(2, 4)
    cut = Travelling(Manifest(parse_header(data, len(data))), reader(data[:-1]))
    with pytest.raises(Corrupt, match="ends inside"):
        cut.values(0, 3)
