"""Headers of files from somebody else: every lie ends in BadUpdate, and nothing else does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import BadUpdate
from unisono.tensors import Entry, Manifest, check_header, header_length, parse_header


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def described(**tensors: object) -> bytes:
    return framed(json.dumps(tensors).encode())


def f32(shape: list[object], begin: object, end: object, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = described(a=f32([2], 0, 8), b=f32([1], 8, 12), e=f32([0, 3], 8, 8))


def test_a_header_in_any_order_is_read() -> None:
    prefix = described(b=f32([1], 8, 12), e=f32([0, 3], 8, 8), a=f32([2], 0, 8))
    assert [e.name for e in parse_header(prefix, len(prefix) + 12)] == ["a", "e", "b"]


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"\x01",
        (0).to_bytes(8, "little"),
        (2**63).to_bytes(8, "little") + b"{}",
        ((1 << 20) - 7).to_bytes(8, "little") + b"{}",
        framed(b"[]"),
        framed(b"{}")[:-1],
        framed(b"\xff{}"),
        framed('{"a":1}'.encode("utf-16")),
        framed(b"[" * 500_000),
        framed(b'{"a":' * 100_000),
        framed(GOOD[8:-1] + b',"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
        framed(b'{"__metadata__":{"x":1}}'),
        framed(b'{"__metadata__":[]}'),
        framed(b'{"\\ud800":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'),
        framed(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}'),
        described(a=f32([2], 0, 8), b=f32([1], 4, 8)),  # overlap
        described(a=f32([2], 0, 8), b=f32([2], 0, 8)),  # two names, one place
        described(a=f32([2], 0, 8), b=f32([1], 12, 16)),  # hole
        described(a=f32([2], 4, 12)),  # hole at the beginning
        described(a=f32([2], -8, 0)),
        described(a=f32([2], 8, 0)),
        described(a=f32([-2], 0, -8)),
        described(a=f32([-1, -2], 0, 8)),
        described(a=f32([2**40, 2**40], 0, 8)),
        described(a=f32([2], 0, 2**70)),
        described(a=f32([3], 0, 8)),  # shape and place disagree
        described(a=f32([2.0], 0, 8)),
        described(a=f32([True, 2], 0, 8)),
        described(a=f32([2], False, 8)),
        described(a=f32(["2"], 0, 8)),
        described(a=f32([2], 0, 8, dtype="F8_E4M3")),
        described(a=f32([2], 0, 8, dtype="")),
        described(a={"dtype": "F32", "shape": [2]}),
        described(a={**f32([2], 0, 8), "extra": 1}),
        described(a=7),
        described(**{"a" * 513: f32([2], 0, 8)}),
    ],
)
def test_a_hostile_header_is_a_bad_update(prefix: bytes) -> None:
    with pytest.raises(BadUpdate):
        parse_header(prefix, len(prefix) + 12)
    with pytest.raises(BadUpdate):
        check_header(prefix, MANIFEST)


@given(st.binary(max_size=300))
def test_noise_is_a_bad_update(noise: bytes) -> None:
    for prefix in (noise, framed(noise), framed(b'{"a":' + noise + b"}")):
        with pytest.raises(BadUpdate):
            parse_header(prefix, len(prefix))


@given(st.integers(8, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_never_ends_in_another_error(place: int, byte: int) -> None:
    changed = bytearray(GOOD)
    changed[place] = byte
    try:
        entries = parse_header(bytes(changed), len(GOOD) + 12)
    except BadUpdate:
        return
    assert sum(e.bytes for e in entries) == 12


@pytest.mark.parametrize("size", [len(GOOD), len(GOOD) + 11, len(GOOD) + 13])
def test_a_file_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(BadUpdate, match="tensors end at"):
        parse_header(GOOD, size)


def test_the_length_alone_is_enough_to_refuse() -> None:
    assert header_length(GOOD[:8]) == len(GOOD)
    with pytest.raises(BadUpdate, match="2 to 1048568"):
        header_length(b"\xff" * 8)


MANIFEST = Manifest((Entry("a", (2,), "F32", True), Entry("b", (1,), "F32", False)), ("loss",))


def test_only_the_manifests_own_header_passes() -> None:
    check_header(MANIFEST.header, MANIFEST)
    check_header(MANIFEST.header + b"data", MANIFEST)
    with pytest.raises(BadUpdate, match="another order or added metadata"):
        check_header(described(b=f32([1], 0, 4), a=f32([2], 4, 12)), MANIFEST)
    with pytest.raises(BadUpdate, match="another order or added metadata"):
        check_header(framed(MANIFEST.header[8:].strip()), MANIFEST)
    with pytest.raises(BadUpdate, match=r'"a" has shape \(3,\) here and \(2,\) there'):
        check_header(described(a=f32([3], 0, 12), b=f32([1], 12, 16)), MANIFEST)
    with pytest.raises(BadUpdate, match='"c" is missing there'):
        check_header(described(a=f32([2], 0, 8), b=f32([1], 8, 12), c=f32([], 12, 16)), MANIFEST)
