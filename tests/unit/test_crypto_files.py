"""Sealed files: the fast path equals the plain one, keys are per file, misuse is refused as our own fault."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import Corrupt, Fault
from unisono.crypto import (
    ENVELOPE,
    HEADER,
    SEGMENT,
    TAG,
    AtRest,
    Opener,
    Sealer,
    SealingKey,
    layout,
    open_from,
    plain_length,
    seal_to,
    sealed_length,
    system_entropy,
)

KEY, CONTEXT = bytes(range(32)), b"r-0007/3/hospital-a"
LENGTHS = st.integers(0, 5 * SEGMENT) | st.sampled_from([SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT])


def counting() -> Callable[[int], bytes]:
    calls = iter(range(1, 100))
    return lambda count: bytes([next(calls)]) * count


@given(LENGTHS)
def test_lengths_and_layout_agree(plain: int) -> None:
    pieces = list(layout(plain))
    assert pieces[0][1] == 0
    assert pieces[-1][2] == plain
    assert [last for *_, last in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(a[2] == b[1] for a, b in pairwise(pieces))
    assert sealed_length(plain) == plain + TAG * len(pieces)
    assert plain_length(sealed_length(plain)) == plain


@given(
    st.integers(-3, 40) | st.integers(SEGMENT - 3, SEGMENT + 40) | st.integers(2 * SEGMENT, 2 * SEGMENT + 99)
)
def test_a_length_is_a_file_or_corrupt(sealed: int) -> None:
    try:
        plain = plain_length(sealed)
    except Corrupt:
        assert all(sealed_length(max(0, sealed - TAG * k)) != sealed for k in range(1, 5))
    else:
        assert sealed_length(plain) == sealed


def test_the_fast_path_writes_the_same_bytes() -> None:
    words = np.arange(SEGMENT // 8, dtype=np.uint64)
    plain, out, back = words.tobytes(), bytearray(SEGMENT + TAG + 9), np.zeros(SEGMENT // 8 + 2, np.uint64)
    expected = Sealer(KEY, CONTEXT).seal(plain, last=True)
    assert Sealer(KEY, CONTEXT).seal_into(words, out, last=True) == SEGMENT + TAG
    assert out == expected + bytes(9)
    assert Opener(KEY, CONTEXT).open_into(0, expected, back, last=True) == SEGMENT
    assert back.tobytes() == plain + bytes(16)


def test_a_segment_that_does_not_open_leaves_zeros() -> None:
    sealed = bytearray(Sealer(KEY, CONTEXT).seal(b"secret" * 100, last=True))
    sealed[-1] ^= 1
    out = bytearray(b"x" * 700)
    with pytest.raises(Corrupt, match="segment 0"):
        Opener(KEY, CONTEXT).open_into(0, sealed, out, last=True)
    assert out == bytes(600) + b"x" * 100


def test_segments_open_in_any_order() -> None:
    sealer = Sealer(KEY, CONTEXT)
    first, second = sealer.seal(bytes(SEGMENT), last=False), sealer.seal(b"end", last=True)
    opener = Opener(KEY, CONTEXT)
    assert opener.open(1, second, last=True) == b"end"
    assert opener.open(0, first, last=False) == bytes(SEGMENT)
    assert opener.open(1, memoryview(second), last=True) == b"end"


@pytest.mark.parametrize(("index", "last"), [(0, True), (1, False), (2, True)])
def test_no_segment_stands_for_another(index: int, last: bool) -> None:
    sealer = Sealer(KEY, CONTEXT)
    sealer.seal(bytes(SEGMENT), last=False)
    full = sealer.seal(bytes(SEGMENT), last=True)
    assert Opener(KEY, CONTEXT).open(1, full, last=True) == bytes(SEGMENT)
    with pytest.raises(Corrupt, match=f"segment {index}"):
        Opener(KEY, CONTEXT).open(index, full, last=last)


def test_a_sealer_refuses_what_no_opener_takes() -> None:
    with pytest.raises(Fault, match="5 bytes"):
        Sealer(KEY, b"").seal(b"short", last=False)
    with pytest.raises(Fault, match=f"{SEGMENT + 1} bytes"):
        Sealer(KEY, b"").seal(bytes(SEGMENT + 1), last=True)
    sealer = Sealer(KEY, b"")
    sealer.seal(bytes(SEGMENT), last=False)
    with pytest.raises(Fault, match="0 bytes"):
        sealer.seal(b"", last=True)
    sealer.seal(b"end", last=True)
    with pytest.raises(Fault, match="follows the last"):
        sealer.seal(b"more", last=True)
    with pytest.raises(Fault, match="not 16"):
        Sealer(KEY[:16], b"")


def test_every_file_at_rest_has_its_own_key() -> None:
    entropy, store = counting(), AtRest(KEY)
    (header, sealer), (other, again) = store.new(entropy, CONTEXT), store.new(entropy, CONTEXT)
    sealed, resealed = sealer.seal(b"model", last=True), again.seal(b"model", last=True)
    assert len(header) == HEADER
    assert header != other
    assert sealed != resealed
    assert store.opener(header, CONTEXT).open(0, sealed, last=True) == b"model"
    for opener in (
        store.opener(other, CONTEXT),
        store.opener(header, b"another name"),
        AtRest(bytes(32)).opener(header, CONTEXT),
    ):
        with pytest.raises(Corrupt, match="segment 0"):
            opener.open(0, sealed, last=True)


def test_only_the_addressee_opens_an_upload() -> None:
    coordinator, other = SealingKey.generate(system_entropy), SealingKey.generate(system_entropy)
    envelope, sealer = seal_to(coordinator.public, CONTEXT, system_entropy)
    sealed = sealer.seal(b"update", last=True)
    assert len(envelope) == ENVELOPE
    assert open_from(coordinator, envelope, CONTEXT).open(0, sealed, last=True) == b"update"
    for opener in (open_from(other, envelope, CONTEXT), open_from(coordinator, envelope, b"round 4")):
        with pytest.raises(Corrupt, match="segment 0"):
            opener.open(0, sealed, last=True)


def test_a_header_of_another_kind_is_refused() -> None:
    key = SealingKey.generate(system_entropy)
    header, _ = AtRest(KEY).new(system_entropy, CONTEXT)
    envelope, _ = seal_to(key.public, CONTEXT, system_entropy)
    for wrong in (b"", header[:-1], envelope):
        with pytest.raises(Corrupt, match="not a file sealed at rest"):
            AtRest(KEY).opener(wrong, CONTEXT)
    for wrong in (b"", envelope + b"x", header):
        with pytest.raises(Corrupt, match="not a sealed upload"):
            open_from(key, wrong, CONTEXT)
    with pytest.raises(Fault, match="not 31"):
        AtRest(KEY[1:])


# RFC 7748, section 6.1 and curve25519 points of small order: each would give an all-zero shared secret
SMALL_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("public", [*SMALL_ORDER, b"", bytes(31)])
def test_a_public_key_without_a_secret_is_refused(public: bytes) -> None:
    with pytest.raises(Corrupt, match="small order"):
        seal_to(public, CONTEXT, system_entropy)
    with pytest.raises(Corrupt, match=r"small order|no envelope"):
        open_from(SealingKey.generate(system_entropy), b"unisono2" + public, CONTEXT)
