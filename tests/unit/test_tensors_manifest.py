"""The manifest: canonical bytes, file order, differences in words, and what it refuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import BadMessage
from unisono.tensors import DTYPES, Entry, Manifest

PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
NAMES = st.text(PRINTABLE, min_size=1, max_size=20).filter(lambda n: n != "__metadata__")


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    dtype = draw(st.sampled_from(list(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    return Entry(draw(NAMES), shape, dtype, DTYPES[dtype].floating and draw(st.booleans()))


manifests = st.builds(
    lambda found, metrics: Manifest(tuple(found), tuple(metrics)),
    st.lists(entries(), max_size=8, unique_by=lambda e: e.name),
    st.lists(NAMES, max_size=3, unique=True),
)


@given(manifests)
def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    again = Manifest.decode(manifest.encode())
    assert again == manifest
    assert again.encode() == manifest.encode()
    assert again.digest == manifest.digest
    assert again.difference(manifest) is None


@given(manifests)
def test_the_pieces_cover_the_file_and_the_vector_without_gaps(manifest: Manifest) -> None:
    offset, start = len(manifest.header), 0
    for piece in manifest.pieces():
        assert piece.file_offset == offset
        assert piece.bytes == piece.entry.bytes
        offset += piece.bytes
        if piece.start is not None:
            assert piece.start == start
            start += piece.entry.size
    assert (offset, start) == (manifest.file_bytes, manifest.length)
    assert len(manifest.header) % 8 == 0


@given(manifests, st.binary(max_size=200))
def test_only_canonical_bytes_decode(manifest: Manifest, noise: bytes) -> None:
    spaced = json.dumps(json.loads(manifest.encode()), ensure_ascii=False).encode()
    for data in (noise, spaced, manifest.encode() + b" ", manifest.encode()[:-1]):
        with pytest.raises(BadMessage):
            Manifest.decode(data)


def test_the_order_given_does_not_matter() -> None:
    a, b, c = (
        Entry("a", (2,), "F32", True),
        Entry("b", (), "F32", False),
        Entry("z", (3,), "I64", False),
    )
    assert Manifest((a, b, c)) == Manifest((c, b, a))
    assert [e.name for e in Manifest((b, a, c)).entries] == ["z", "a", "b"]
    assert [p.start for p in Manifest((a, b, c)).pieces()] == [None, 0, None]


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (Entry("fc", (10, 29), "F32", True), 'tensor "fc" has shape (10, 30) here and (10, 29) there'),
        (Entry("fc", (10, 30), "F16", True), 'tensor "fc" has type F32 here and F16 there'),
        (Entry("fc", (10, 30), "F32", False), 'tensor "fc" is trained here and is frozen there'),
        (Entry("gc", (10, 30), "F32", True), 'tensor "fc" is missing there'),
        (Entry("ba", (10, 30), "F32", True), 'tensor "ba" is missing here'),
    ],
)
def test_the_first_difference_is_named(there: Entry, words: str) -> None:
    assert Manifest((Entry("fc", (10, 30), "F32", True),)).difference(Manifest((there,))) == words


def test_metrics_differ_in_words() -> None:
    assert (
        Manifest((), ("loss", "auc")).difference(Manifest(())) == "metrics are loss, auc here and none there"
    )


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "travels", "words"),
    [
        ("", (1,), "F32", True, "empty or longer"),
        ("a" * 513, (1,), "F32", True, "empty or longer"),
        ("__metadata__", (1,), "F32", True, "reserved"),
        ("a", (-1,), "F32", True, "negative or beyond"),
        ("a", (2**31, 2**31), "F32", True, "negative or beyond"),
        ("a", (0, 2**80), "F32", True, "negative or beyond"),
        ("a", (1,) * 33, "F32", True, "33 dimensions"),
        ("a", (1,), "F8_E4M3", True, "known are I64, F64"),
        ("a", (1,), "I64", True, "cannot travel"),
    ],
)
def test_an_impossible_tensor_is_refused(
    name: str, shape: tuple[int, ...], dtype: str, travels: bool, words: str
) -> None:
    with pytest.raises(BadMessage, match=words):
        Entry(name, shape, dtype, travels)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"\xff\xfe",
        b'{"format":"unisono/manifest/1","tensors":[],"metrics":[],"metrics":[]}',
        b'{"format":"unisono/manifest/2","tensors":[],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[["a",[true],"F32",true]],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[["a",[1.0],"F32",true]],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[["a",[1],"F32",1]],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[["a",[1],"F32"]],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[["\\ud800",[1],"F32",true]],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[["a",[' + b"9" * 5000 + b'],"F32",true]],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[],"metrics":[""]}',
        b'{"format":"unisono/manifest/1","tensors":[],"metrics":[NaN]}',
        b'{"format":"unisono/manifest/1","tensors":[],"metrics":["a","a"]}',
        b'{"format":"unisono/manifest/1","tensors":[],"metrics":[7]}',
        b'{"format":"unisono/manifest/1","tensors":[["a",[1],"F32",true],["a",[2],"F32",true]],"metrics":[]}',
        b'{"format":"unisono/manifest/1","tensors":[["b",[1],"F32",true],["a",[2],"F32",true]],"metrics":[]}',
        b" " * ((1 << 20) + 1),
    ],
)
def test_hostile_bytes_are_a_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessage):
        Manifest.decode(data)


def test_a_model_whose_header_would_not_be_read_back_is_refused_at_once() -> None:
    with pytest.raises(BadMessage, match="too large"):
        Manifest(tuple(Entry(f"{k:0500}", (1,), "F32", True) for k in range(2200)))
