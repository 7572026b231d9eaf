"""Downloads and uploads: whatever comes and wherever it stops, the bytes are whole or refused."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.clock import ManualClock
from unisono.base.errors import BadMessage, Corrupt, Unavailable, Unreachable
from unisono.base.ids import Digest, RunId
from unisono.client.config import Network
from unisono.client.runtime.allowance import Allowance
from unisono.client.runtime.cache import Cache
from unisono.client.runtime.downloads import fetch
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.uploads import CHUNK, Parcel, Place, file_reader, send
from unisono.client.session import Attempt
from unisono.crypto import SEGMENT, sha256_hex

KEY = bytes(range(32))
SIZES = [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 77]


def model(size: int) -> bytes:
    return Random(size).randbytes(size)  # noqa: S311 - the same bytes every time


FREE = Allowance(Network(), ManualClock(), Halt())


def unseen(done: int, total: int) -> None:
    assert done <= total


@dataclass
class Server:
    """Sends a model in chunks, `most` bytes a call, and breaks off after `limits[n]` of the n-th."""

    data: bytes
    chunk: int = CHUNK
    limits: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    shift: int = 0
    most: int = 1 << 62

    def download(self, digest: Digest, offset: int, take: Callable[[int, bytes], None]) -> None:
        self.offsets.append(offset)
        stop = offset + self.limits.pop(0) if self.limits else None
        end = min(len(self.data), offset + self.most)
        for start in range(offset, end, self.chunk):
            if stop is not None and start >= stop:
                raise Unreachable("the connection broke", 1.0)
            take(start + self.shift, self.data[start : min(end, start + self.chunk)])


def held(cache: Cache, digest: Digest, size: int, offset: int = 0) -> bytes:
    return b"".join(cache.read(digest, size, offset))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk", [CHUNK, 300_000])
def test_a_model_arrives_whole_and_is_encrypted_on_the_disk(tmp_path: Path, size: int, chunk: int) -> None:
    data = model(size)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    fetch(Server(data, chunk), cache, digest, size, unseen)
    assert held(cache, digest, size) == data
    assert cache.has(digest, size)
    assert cache.plain_bytes(digest) == size
    if size > 100:
        assert data[:64] not in cache.path(digest).read_bytes()


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = model(4 * SEGMENT + 5)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    server = Server(data, 700_000, limits=[2 * SEGMENT, SEGMENT])
    for _ in range(2):
        with pytest.raises(Unreachable):
            fetch(server, cache, digest, len(data), unseen)
    fetch(server, cache, digest, len(data), unseen)
    assert server.offsets == [0, 3 * 700_000, 5 * 700_000]
    assert held(cache, digest, len(data)) == data
    assert [path.name for path in tmp_path.iterdir()] == [digest]


def test_a_small_model_comes_byte_by_byte_over_a_line_that_breaks(tmp_path: Path) -> None:
    """A segment of 1 MiB takes 87 s at 12 kB/s: who kept whole ones only never had any."""
    data = model(5000)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    server = Server(data, 1000, limits=[1, 1, 1])
    for _ in range(3):
        with pytest.raises(Unreachable):
            fetch(server, cache, digest, len(data), unseen)
        assert data[:64] not in cache.rest(digest).read_bytes()
    fetch(server, cache, digest, len(data), unseen)
    assert server.offsets == [0, 1000, 2000, 3000]
    assert held(cache, digest, len(data)) == data


def test_a_model_comes_in_as_many_streams_as_it_takes(tmp_path: Path) -> None:
    data = model(2 * SEGMENT + 5)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    server = Server(data, 300_000, most=600_000)
    fetch(server, cache, digest, len(data), unseen)
    assert server.offsets == [0, 600_000, 1_200_000, 1_800_000]
    assert held(cache, digest, len(data)) == data


@pytest.mark.parametrize("harm", ["cut", "altered", "moved", "empty"])
def test_a_damaged_rest_costs_time_only(tmp_path: Path, harm: str) -> None:
    data = model(SEGMENT + 5000)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    with pytest.raises(Unreachable):
        fetch(Server(data, 1000, limits=[SEGMENT + 1000]), cache, digest, len(data), unseen)
    raw = bytearray(cache.rest(digest).read_bytes())
    match harm:
        case "cut":
            del raw[-9:]
        case "altered":
            raw[100] ^= 1
        case "moved":  # as if what lies before it had been lost
            cache.part(digest).unlink()
        case _:
            raw.clear()
    cache.rest(digest).write_bytes(raw)
    server = Server(data)
    fetch(server, cache, digest, len(data), unseen)
    assert server.offsets == [0 if harm == "moved" else SEGMENT]
    assert held(cache, digest, len(data)) == data


def test_a_model_that_was_announced_as_larger_can_still_be_had(tmp_path: Path) -> None:
    """What came then is more than there is now: it was found again, and refused, with every try."""
    data = model(1000)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    with pytest.raises(Unreachable):
        fetch(Server(model(2000), 500, limits=[1500]), cache, digest, 2000, unseen)
    fetch(Server(data), cache, digest, len(data), unseen)
    assert held(cache, digest, len(data)) == data


@pytest.mark.parametrize("harm", ["cut", "altered", "header", "other key"])
def test_a_damaged_part_costs_time_only(tmp_path: Path, harm: str) -> None:
    data = model(2 * SEGMENT + 5)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    with pytest.raises(Unreachable):
        fetch(Server(data, limits=[2 * SEGMENT]), cache, digest, len(data), unseen)
    raw = bytearray(cache.part(digest).read_bytes())
    match harm:
        case "cut":
            del raw[-9:]
        case "altered":
            raw[SEGMENT + 500] ^= 1
        case "header":
            raw[3] ^= 1
        case _:
            cache = Cache(tmp_path, bytes(32))
    cache.part(digest).write_bytes(raw)
    fetch(Server(data), cache, digest, len(data), unseen)
    assert held(cache, digest, len(data)) == data


def test_a_model_with_another_digest_is_fetched_once_more_and_then_refused(tmp_path: Path) -> None:
    data = model(1000)
    server, cache = Server(data), Cache(tmp_path, KEY)
    with pytest.raises(Corrupt, match="1000 bytes came"):
        fetch(server, cache, Digest("0" * 64), 1000, unseen)
    assert server.offsets == [0, 0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("server", "size", "words"),
    [
        (Server(model(1000)), 999, "more than the 999"),
        (Server(model(1000)), 1001, "ended after 1000 of 1001"),
        (Server(model(1000), shift=1), 1000, "those from 1 on came"),
    ],
)
def test_wrong_chunks_are_refused(tmp_path: Path, server: Server, size: int, words: str) -> None:
    with pytest.raises(BadMessage, match=words):
        fetch(server, Cache(tmp_path, KEY), Digest("0" * 64), size, unseen)


def test_an_altered_model_in_the_cache_is_noticed(tmp_path: Path) -> None:
    data = model(1000)
    digest, cache = sha256_hex(data), Cache(tmp_path, KEY)
    fetch(Server(data), cache, digest, 1000, unseen)
    raw = bytearray(cache.path(digest).read_bytes())
    raw[500] ^= 1
    cache.path(digest).write_bytes(raw)
    with pytest.raises(Corrupt):
        held(cache, digest, 1000)


def test_a_sweep_leaves_only_what_is_known(tmp_path: Path) -> None:
    cache = Cache(tmp_path, KEY)
    digests = []
    for size in (10, 20):
        data = model(size)
        digests.append(sha256_hex(data))
        fetch(Server(data), cache, digests[-1], size, unseen)
    (tmp_path / "describe.part").write_bytes(b"left by a crash")
    cache.sweep({digests[1]})
    assert [path.name for path in tmp_path.iterdir()] == [digests[1]]


@given(st.integers(0, 2 * SEGMENT + 77))
def test_a_cached_model_is_read_from_any_offset(
    tmp_path_factory: pytest.TempPathFactory, offset: int
) -> None:
    data, folder = model(2 * SEGMENT + 77), tmp_path_factory.getbasetemp() / "offsets"
    digest, cache = sha256_hex(data), Cache(folder, KEY)
    if not cache.has(digest):
        fetch(Server(data), cache, digest, len(data), unseen)
    assert held(cache, digest, len(data), offset) == data[offset:]


@dataclass
class Coordinator:
    """Owns the offset of one upload; `limits[n]` bytes of the n-th stream arrive before it breaks."""

    size: int
    digest: Digest
    limits: list[int] = field(default_factory=list)
    got: bytearray = field(default_factory=bytearray)
    streams: int = 0
    keep: bool = True

    def begin(self, parcel: Parcel) -> Place:
        return self._place()

    def upload(self, parcel: Parcel, chunks: Iterator[tuple[int, bytes | memoryview]]) -> Place:
        self.streams += 1
        left = self.limits.pop(0) if self.limits else self.size + 1
        for offset, data in chunks:
            assert offset == len(self.got)
            assert len(data) <= CHUNK
            if left <= 0:
                raise Unreachable("the connection broke", 1.0)
            left -= len(data)
            if self.keep:
                self.got += data
        return self._place()

    def _place(self) -> Place:
        whole = len(self.got) == self.size and sha256_hex(self.got) == self.digest and self.streams > 0
        return Place(len(self.got), whole)


def parcel(data: bytes) -> Parcel:
    return Parcel("update", Attempt(RunId("r-0001"), 1, 1), sha256_hex(data), len(data))


@given(st.integers(0, 3 * CHUNK), st.lists(st.integers(0, 2 * CHUNK), max_size=4))
def test_an_upload_ends_whole_wherever_it_breaks(
    tmp_path_factory: pytest.TempPathFactory, size: int, limits: list[int]
) -> None:
    data = model(size)
    path = tmp_path_factory.getbasetemp() / "update"
    path.write_bytes(data)
    server = Coordinator(size, sha256_hex(data), list(limits))
    for _ in range(len(limits)):
        try:
            send(server, parcel(data), file_reader(path), unseen, FREE)
            break
        except Unreachable:
            continue
    send(server, parcel(data), file_reader(path), unseen, FREE)
    assert bytes(server.got) == data


def test_what_is_complete_is_not_sent_again(tmp_path: Path) -> None:
    data = model(100)
    server = Coordinator(100, sha256_hex(data), got=bytearray(data), streams=1)
    send(server, parcel(data), file_reader(tmp_path / "not needed"), unseen, FREE)
    assert server.streams == 1


def test_an_upload_that_stands_still_is_given_back(tmp_path: Path) -> None:
    data = model(100)
    (tmp_path / "u").write_bytes(data)
    with pytest.raises(Unavailable, match="stands still at byte 0 of 100"):
        send(
            Coordinator(100, sha256_hex(data), keep=False),
            parcel(data),
            file_reader(tmp_path / "u"),
            unseen,
            FREE,
        )


def test_an_offset_beyond_the_file_is_refused(tmp_path: Path) -> None:
    server = Coordinator(100, Digest("0" * 64), got=bytearray(101))
    with pytest.raises(BadMessage, match="byte 101 of 100"):
        send(server, parcel(model(100)), file_reader(tmp_path / "u"), unseen, FREE)
