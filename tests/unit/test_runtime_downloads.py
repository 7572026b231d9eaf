"""Downloads: segments are opened once for all who read them, and nobody's going away harms another."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from unisono.base.errors import BadMessage, Corrupt, NotFound
from unisono.base.ids import Digest
from unisono.base.pacing import MOST_PIECE, Pieces
from unisono.crypto import HEADER, SEGMENT, AtRest, sha256_hex, system_entropy
from unisono.server.blobs import LocalDir, Reader
from unisono.server.runtime.downloads import KEPT, Downloads
from unisono.server.runtime.workers import Workers

DATA = os.urandom(3 * SEGMENT + 1000)
DIGEST = sha256_hex(DATA)


class Place:
    """A blob store with one file, and what reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workers = folder, Workers(2)
        self.blobs = LocalDir(folder, AtRest(bytes(range(32))), system_entropy)
        self.put(DATA)
        self.downloads = Downloads(self.blobs, self.workers)

    def put(self, data: bytes) -> Digest:
        with self.blobs.writer() as blob:
            blob.write(data)
            return blob.commit()

    def read(
        self, digest: Digest = DIGEST, offset: int = 0, length: int = 0
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        async def turn() -> None:
            await asyncio.sleep(0)

        return self.downloads.read(digest, offset, length, Pieces(size=MOST_PIECE), turn)

    async def get(self, digest: Digest = DIGEST, offset: int = 0, length: int = 0) -> bytes:
        parts, place = [], offset
        async with aclosing(self.read(digest, offset, length)) as chunks:
            async for at, data in chunks:
                assert at == place
                parts.append(data)
                place += len(data)
        return b"".join(parts)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    yield made
    assert len(os.listdir("/proc/self/fd")) == before
    made.workers.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which segments were decrypted."""
    found: list[int] = []
    segment = Reader.segment

    def counted(reader: Reader, index: int) -> bytes:
        found.append(index)
        return segment(reader, index)

    monkeypatch.setattr(Reader, "segment", counted)
    return found


def run(story: Coroutine[object, object, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await story

    asyncio.run(limited())


@pytest.mark.parametrize("offset", [0, 5, SEGMENT - 1, SEGMENT, 3 * SEGMENT, len(DATA) - 1, len(DATA)])
@pytest.mark.parametrize("length", [1, SEGMENT - 5, SEGMENT, SEGMENT + 1, 1 << 63])
def test_no_more_than_was_asked_for(place: Place, opened: list[int], offset: int, length: int) -> None:
    """Nor is a segment opened of which nothing is sent: a slow client asks for a few bytes at a time."""

    async def story() -> None:
        data = DATA[offset : offset + length]
        assert await place.get(offset=offset, length=length) == data
        touched = range(offset // SEGMENT, -(-(offset + len(data)) // SEGMENT)) if data else ()
        assert sorted(opened) == list(touched)

    run(story())


@pytest.mark.parametrize("offset", [0, 1, SEGMENT - 1, SEGMENT, 3 * SEGMENT, len(DATA) - 1, len(DATA)])
def test_from_any_place_to_the_end(place: Place, offset: int) -> None:
    async def story() -> None:
        assert await place.get(offset=offset) == DATA[offset:]

    run(story())


def test_what_is_not_there(place: Place) -> None:
    async def story() -> None:
        with pytest.raises(BadMessage, match=f"offset {len(DATA) + 1} in a model of {len(DATA)} bytes"):
            await place.get(offset=len(DATA) + 1)
        for digest in ("0" * 64, "../lock", ""):
            with pytest.raises(NotFound):
                await place.get(Digest(digest))

    run(story())


def test_an_empty_file(place: Place) -> None:
    async def story() -> None:
        assert await place.get(place.put(b"")) == b""

    run(story())


def test_many_readers_open_each_segment_once(place: Place, opened: list[int]) -> None:
    async def story() -> None:
        found = await asyncio.gather(*(place.get() for _ in range(10)))
        assert set(found) == {DATA}
        assert sorted(opened) == [0, 1, 2, 3]

    run(story())


def test_who_leaves_takes_nothing_from_those_who_stay(place: Place) -> None:
    async def story() -> None:
        leaving = [asyncio.create_task(place.get()) for _ in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)  # the first one is reading what the others wait for
        staying = [asyncio.create_task(place.get()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        assert set(await asyncio.gather(*staying)) == {DATA}
        await asyncio.gather(*leaving, return_exceptions=True)
        await asyncio.gather(*place.downloads._segments.values())
        await asyncio.sleep(0)

    run(story())


def test_damage_is_told_and_may_be_repaired(place: Place) -> None:
    async def story() -> None:
        path = place.folder / DIGEST
        good = path.read_bytes()
        bad = bytearray(good)
        bad[HEADER + SEGMENT + 100] ^= 1
        path.write_bytes(bad)
        for _ in range(2):
            with pytest.raises(Corrupt, match="segment 1"):
                await place.get()
        path.write_bytes(good)
        assert await place.get() == DATA

    run(story())


def test_memory_is_bounded_whatever_is_read(place: Place) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            for number in range(KEPT + 4):
                made = place.put(number.to_bytes(2, "big"))
                await anext(await stack.enter_async_context(aclosing(place.read(made))))
            assert len(place.downloads._segments) == KEPT
        assert not place.downloads._segments

    run(story())


def test_what_nobody_reads_any_more_is_not_kept(place: Place, opened: list[int]) -> None:
    """Else the segments of old models would pile up, round by round."""

    async def story() -> None:
        async with aclosing(place.read()) as reading:
            await anext(reading)
            assert await place.get() == DATA
            before = len(opened)
            assert await place.get() == DATA  # with another reader still there, nothing is opened again
            assert len(opened) == before == 4
        assert await place.get() == DATA
        assert len(opened) == 8

    run(story())


def test_who_waits_for_its_turn_holds_nothing(place: Place) -> None:
    """Each at another place of the model: else they would hold all of it, twice."""

    async def story() -> None:
        line = asyncio.Barrier(4 + 1)
        go = asyncio.Event()

        async def turn() -> None:
            if not go.is_set():
                await line.wait()
                await go.wait()

        async def read(offset: int) -> bytes:
            found = bytearray()
            async with aclosing(place.downloads.read(DIGEST, offset, 0, Pieces(size=1 << 18), turn)) as parts:
                async for at, data in parts:
                    assert at == offset + len(found)
                    assert len(data) <= 1 << 18
                    found += data
            return bytes(found)

        readers = [asyncio.create_task(read(number * SEGMENT)) for number in range(4)]
        await line.wait()
        assert not place.downloads._segments
        go.set()
        assert await asyncio.gather(*readers) == [DATA[number * SEGMENT :] for number in range(4)]

    run(story())
