"""The masked file: its ranges are held, its bytes are those of the streams, what is broken is not used."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisono.base.errors import Corrupt
from unisono.base.ids import Digest, RunId
from unisono.client.runtime.cache import Cache
from unisono.client.runtime.masking import Ranges, Shelf, Stored, mask
from unisono.client.session import Attempt
from unisono.client.trainer.at_rest import SealedFile, SealedWriter
from unisono.codec import Spec, SpecPart, encode_head, per_word
from unisono.codec.lanes import Words, pack, word_count
from unisono.crypto import SEGMENT, AtRest, sha256_hex, system_entropy
from unisono.secagg.client.refusals import UpdateOutOfRange
from unisono.secagg.shared.keys import MaskStream
from unisono.secagg.shared.masks import Mask

AT_REST, AT = AtRest(bytes(32)), Attempt(RunId("r-0001"), 1, 2)
STREAMS = (MaskStream(bytes([1] * 32), add=True), MaskStream(bytes([2] * 32), add=False))
HEAD = {"one": 1.0, "weight": 0.5, "loss.sum": -3.0, "loss.count": 7.0}


def spec(lanes: int, clients: int = 3, length: int = 8192) -> Spec:
    return Spec(lanes, clients, (SpecPart("delta", length, 1.0, weighted=True),), tuple(HEAD), "hadamard")


def vector(of: Spec, **head: float) -> Words:
    """Return words at both ends of their range, and a head."""
    (part,) = of.parts
    levels = np.zeros(of.coordinates(part))
    levels[::2] = 2 * of.levels
    words = np.zeros(word_count(levels.size, of.lanes), np.uint64)
    pack(levels, of.lanes, words)
    return np.concatenate([words, encode_head(HEAD | head, of)])


@contextmanager
def stored(folder: Path, words: Words, of: Spec) -> Iterator[Stored]:
    path = folder / "v"
    with path.open("wb") as file:
        writer = SealedWriter(file, *AT_REST.new(system_entropy, b"vector"))
        writer.write(words)
        writer.finish()
    with SealedFile(path, AT_REST, b"vector") as file:
        yield Stored(file, sha256_hex(words), of)


def unseen(done: int, total: int) -> None:
    """Take progress."""


@pytest.mark.parametrize("lanes", [12, 16, 21])
def test_the_masked_words_are_the_vector_and_its_streams(tmp_path: Path, lanes: int) -> None:
    of = spec(lanes, length=700_000)
    words, seen = vector(of), list[tuple[int, int]]()
    assert words.nbytes > SEGMENT
    with stored(tmp_path, words, of) as found:
        digest = mask(found, STREAMS, tmp_path / "m", lambda done, total: seen.append((done, total)))
    raw = (tmp_path / "m").read_bytes()
    assert digest == sha256_hex(raw)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o600
    assert seen[-1] == (len(raw), len(raw))
    scratch = np.empty(1024, np.uint64)
    Mask(STREAMS[0].key, scratch).add(words, 0)
    Mask(STREAMS[1].key, scratch).subtract(words, 0)
    assert raw == words.tobytes()


@settings(max_examples=60)
@given(st.sampled_from([12, 16, 21]), st.integers(3, 100), st.data())
def test_a_lane_that_is_too_large_or_an_unused_bit_is_found(
    lanes: int, clients: int, data: st.DataObject
) -> None:
    of = spec(lanes, clients, 4096)
    words = vector(of)
    place, lane = (
        data.draw(st.integers(0, of.head_offset - 1)),
        data.draw(st.integers(0, per_word(lanes) - 1)),
    )
    level = data.draw(st.integers(2 * of.levels + 1, (1 << lanes) - 1))
    if lanes * per_word(lanes) < 64 and data.draw(st.booleans()):
        words[place] |= np.uint64(1 << 63)
    else:
        keep = (1 << 64) - 1 - (((1 << lanes) - 1) << (lane * lanes))
        words[place] = np.uint64(int(words[place]) & keep | level << (lane * lanes))
    ranges = Ranges(of)
    with pytest.raises(UpdateOutOfRange, match=str(2 * of.levels)):
        ranges.take(words)


@pytest.mark.parametrize("wrong", [{"one": 2.0}, {"weight": 0.0}, {"weight": 1.5}, {"one": -1.0}])
def test_a_head_that_counts_for_more_than_one_client(tmp_path: Path, wrong: dict[str, float]) -> None:
    of = spec(16)
    with stored(tmp_path, vector(of, **wrong), of) as found, pytest.raises(UpdateOutOfRange):
        mask(found, (), tmp_path / "m", unseen)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: what fits of a write is written, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_masked_file_that_found_half_of_its_room_is_none(tmp_path: Path) -> None:
    """The last piece, of a small model the only one, is cut without an error: nothing is written after it."""
    of = spec(16)
    with stored(tmp_path, vector(of), of) as found:
        with room_for(of.bytes // 2), pytest.raises(OSError, match="too large"):
            mask(found, STREAMS, tmp_path / "m", unseen)
        mask(found, STREAMS, tmp_path / "m", unseen)
    assert (tmp_path / "m").stat().st_size == of.bytes


def test_a_model_that_found_half_of_its_room_is_none(tmp_path: Path) -> None:
    cache, data = Cache(tmp_path, bytes(32)), bytes(8192)
    digest = sha256_hex(data)
    with cache.arriving(digest, len(data)) as arriving:
        arriving.write(0, data)
        with room_for(4096), pytest.raises(OSError, match="too large"):
            arriving.finish()
    assert not cache.has(digest)


def test_a_number_without_room_in_the_sum(tmp_path: Path) -> None:
    of = spec(16)
    words = vector(of)
    words[-1] = np.uint64(2**62)
    with stored(tmp_path, words, of) as found, pytest.raises(UpdateOutOfRange, match="too large"):
        mask(found, (), tmp_path / "m", unseen)


def test_another_vector_than_the_one_that_was_stored(tmp_path: Path) -> None:
    of = spec(16)
    with stored(tmp_path, vector(of), of) as found:
        with pytest.raises(Corrupt, match="another digest"):
            mask(replace(found, sha256=Digest("0" * 64)), (), tmp_path / "m", unseen)
        with pytest.raises(Corrupt, match="the spec has"):
            mask(replace(found, spec=spec(12)), (), tmp_path / "m", unseen)


def test_a_file_is_found_again_only_if_it_is_whole(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, AT)
    assert shelf.find(5) is None
    shelf.part.write_bytes(b"12345")
    placed = shelf.place(sha256_hex(b"12345"), 5)
    assert shelf.find(5) == placed
    assert shelf.find(6) is None
    (tmp_path / placed.file).write_bytes(b"12346")
    assert shelf.find(5) is None
    other = Shelf(tmp_path, replace(AT, attempt=1))
    other.part.write_bytes(b"1")
    other.place(sha256_hex(b"1"), 1)
    shelf.clear()
    assert [path.name.split("-")[3] for path in tmp_path.iterdir()] == ["1"]
