import threading
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unisono.base.errors import BadMessage, Fault, NotFound
from unisono.base.ids import Digest
from unisono.crypto import SEGMENT, TAG, sha256_hex
from unisono.server.blobs import LocalDir

EDGES = st.sampled_from([0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 5])
same_store = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def put(blobs: LocalDir, data: bytes, cuts: list[int] | None = None) -> Digest:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    with blobs.writer() as blob:
        for start, stop in pairwise(places):
            blob.write(data[start:stop])
        assert blob.offset == len(data)
        return blob.commit()


@same_store
@given(size=EDGES, cuts=st.lists(st.integers(0, 3 * SEGMENT), max_size=4))
def test_what_was_written_in_any_pieces_is_read(blobs: LocalDir, size: int, cuts: list[int]) -> None:
    data = pattern(size)
    found = put(blobs, data, cuts)
    assert found == sha256_hex(data)
    assert blobs.size(found) == size
    with blobs.open(found) as reader:
        assert b"".join(reader.segment(index) for index in range(reader.segments)) == data
        assert reader.digest() == found


@same_store
@given(size=EDGES, offset=st.integers(0, 3 * SEGMENT), length=st.integers(0, 3 * SEGMENT))
def test_any_range_is_read(blobs: LocalDir, size: int, offset: int, length: int) -> None:
    data = pattern(size)
    with blobs.open(put(blobs, data)) as reader:
        if offset > size:
            with pytest.raises(BadMessage, match=str(size)):
                reader.read(offset, length)
        else:
            assert reader.read(offset, length) == data[offset : offset + length]


def test_a_segment_goes_into_the_callers_memory(blobs: LocalDir) -> None:
    data = pattern(SEGMENT + 7)
    out, scratch = memoryview(bytearray(SEGMENT)), memoryview(bytearray(SEGMENT + TAG))
    with blobs.open(put(blobs, data)) as reader:
        assert reader.segment_into(1, out, scratch) == 7
        assert bytes(out[:7]) == data[SEGMENT:]
        for missing in (-1, 2):
            with pytest.raises(BadMessage, match="2 segments"):
                reader.segment_into(missing, out, scratch)


def test_nobody_sees_a_file_before_it_is_committed_or_after_it_was_given_up(blobs: LocalDir) -> None:
    with blobs.writer() as blob:
        blob.write(b"abc")
        assert blobs.digests() == frozenset()
        assert not blobs.exists(sha256_hex(b"abc"))
    assert blobs.digests() == frozenset()
    given_up = blobs.writer()
    given_up.write(b"abc")
    given_up.abort()
    given_up.abort()
    with pytest.raises(Fault, match="after its end"):
        given_up.commit()
    assert blobs.digests() == frozenset()


def test_the_same_bytes_twice_are_one_file(blobs: LocalDir) -> None:
    first = put(blobs, b"abc")
    with blobs.open(first) as reader:
        assert put(blobs, b"abc") == first
        assert reader.read(0, 3) == b"abc"
    assert blobs.digests() == {first}


def test_two_at_once_do_not_mix(blobs: LocalDir) -> None:
    one, two = blobs.writer(), blobs.writer()
    one.write(b"a")
    two.write(b"b")
    one.write(b"a")
    assert {one.commit(), two.commit()} == {sha256_hex(b"aa"), sha256_hex(b"b")} == blobs.digests()


def test_a_deleted_file_is_gone_but_for_its_readers(blobs: LocalDir) -> None:
    data = pattern(SEGMENT + 1)
    found = put(blobs, data)
    with blobs.open(found) as reader:
        blobs.delete(found)
        blobs.delete(found)
        assert not blobs.exists(found)
        assert reader.read(0, len(data)) == data
    with pytest.raises(NotFound, match=found):
        blobs.open(found)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63])
def test_what_is_no_digest_names_no_file(blobs: LocalDir, name: str) -> None:
    for ask in (blobs.open, blobs.exists, blobs.delete):
        with pytest.raises(NotFound, match="SHA-256"):
            ask(Digest(name))


def test_threads_read_one_file_together(blobs: LocalDir) -> None:
    data = pattern(4 * SEGMENT)
    wrong: list[int] = []
    with blobs.open(put(blobs, data)) as reader:

        def read(start: int) -> None:
            for place in range(start, len(data) - 100, 300_007):
                if reader.read(place, 100) != data[place : place + 100]:
                    wrong.append(place)

        threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
