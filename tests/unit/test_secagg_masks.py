"""Masks: a keystream by byte offset, chunk by chunk, that cancels mod 2^64."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unisono.base.errors import Fault
from unisono.crypto import Stream
from unisono.secagg.shared.masks import Mask

Words = NDArray[np.uint64]
COUNT = 1003


def scratch(words: int = 64) -> Words:
    return np.empty(words, np.uint64)


def keystream(key: bytes, words: int) -> Words:
    out = np.empty(words, "<u8")
    Stream(key).fill(out)
    return out.astype(np.uint64)


def test_a_mask_is_the_keystream_in_little_endian_words() -> None:
    words = np.zeros(COUNT, np.uint64)
    Mask(bytes(32), scratch()).add(words, 0)
    assert words.astype("<u8").tobytes()[:16].hex() == "dc95c078a2408989ad48a21492842087"  # aes_ctr.json
    assert np.array_equal(words, keystream(bytes(32), COUNT))


@given(
    cuts=st.lists(st.integers(0, COUNT), max_size=6),
    order=st.randoms(use_true_random=False),
    size=st.sampled_from([1, 3, 64, 5000]),
)
def test_chunks_in_any_order_make_the_same_mask(cuts: list[int], order: Random, size: int) -> None:
    key = b"k" * 32
    edges = sorted({0, COUNT, *cuts})
    chunks = list(pairwise(edges))
    order.shuffle(chunks)
    words, mask = np.zeros(COUNT, np.uint64), Mask(key, scratch(size))
    for start, stop in chunks:
        mask.add(words[start:stop], 8 * start)
    assert np.array_equal(words, keystream(key, COUNT))


def test_subtracting_undoes_adding_mod_2_64() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2**64, COUNT, np.uint64, endpoint=False)
    words, room = before.copy(), scratch()
    masks = [Mask(bytes([i]) * 32, room) for i in range(3)]
    for mask in masks:
        mask.add(words, 0)
    assert not np.any(words == before)
    for mask in masks:
        mask.subtract(words, 0)
    assert np.array_equal(words, before)


def test_pair_masks_cancel_in_the_sum() -> None:
    room, total = scratch(), np.zeros(COUNT, np.uint64)
    for me in range(4):
        upload = np.full(COUNT, me, np.uint64)
        for other in range(4):
            mask = Mask(bytes([min(me, other), max(me, other)]) * 16, room)
            if me < other:
                mask.add(upload, 0)
            elif me > other:
                mask.subtract(upload, 0)
        total += upload
    assert np.array_equal(total, np.full(COUNT, 6, np.uint64))


def test_far_offsets_need_nothing_before_them() -> None:
    """Byte 2^40 belongs to counter 2^36."""
    words = np.zeros(4, np.uint64)
    Mask(b"f" * 32, scratch()).add(words, 2**40 + 8)
    expected = np.empty(5, "<u8")
    Stream(b"f" * 32, 2**40).fill(expected)
    assert np.array_equal(words, expected[1:])


def test_a_failed_chunk_does_not_shift_the_next() -> None:
    mask, words = Mask(bytes(32), scratch(8)), np.zeros(20, np.uint64)
    frozen = np.zeros(20, np.uint64)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        mask.add(frozen, 0)
    mask.add(words, 0)
    assert np.array_equal(words, keystream(bytes(32), 20))


def test_masked_words_look_like_noise() -> None:
    """Chi-square on bytes with 255 degrees of freedom: beyond 400 once in 10^8 keys (this key is fixed)."""
    words = np.zeros(1 << 16, np.uint64)
    Mask(b"n" * 32, scratch(1 << 13)).add(words, 0)
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    assert float(np.sum((counts - expected) ** 2) / expected) < 400


@pytest.mark.parametrize("offset", [1, 4, 15])
def test_an_offset_inside_a_word_is_a_fault(offset: int) -> None:
    with pytest.raises(Fault, match="whole 64-bit words"):
        Mask(bytes(32), scratch()).add(np.zeros(4, np.uint64), offset)


def test_other_types_than_words_are_a_fault() -> None:
    with pytest.raises(Fault, match="float32"):
        Mask(bytes(32), scratch()).add(np.zeros(4, np.float32), 0)
