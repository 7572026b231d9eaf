"""Uploads on real files: the coordinator owns the offset, and acknowledges what is durable, nothing else."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from unisono.base.clock import ManualClock
from unisono.base.errors import BadMessage, BadUpdate, Corrupt, Error, NotEnrolled, Unavailable, WrongPhase
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import AtRest, sha256_hex, system_entropy
from unisono.server.blobs import LocalDir, Spool
from unisono.server.runtime.presence import Greeting, Presence
from unisono.server.runtime.uploads import FEW, LARGE, MAX_CHUNK, Key, Progress, Slot, Uploads
from unisono.server.runtime.workers import Workers

RUN, A = RunId("r-0001"), ClientName("a")
DATA = bytes(range(256)) * 40
DIGEST = sha256_hex(DATA)
UPDATE = Key("update", RUN, 1, 1, DIGEST, len(DATA))
MODEL = Key("model", RUN, 0, 0, DIGEST, len(DATA))
OPERATORS = Key("model", RunId(""), 0, 0, DIGEST, len(DATA))
HELLO = Greeting("test", 1, frozenset(), frozenset(), frozenset())
Chunks = list[tuple[int, bytes]]


@dataclass
class Desk:
    """Wants everything, unless told otherwise; remembers what it took, which must lie on the disk then."""

    folder: Path
    accepted: list[Key] = field(default_factory=list)
    discarded: list[Digest] = field(default_factory=list)
    refusal: Error | None = None  # of `accept`
    unwanted: Error | None = None  # of `expect`
    full: bool = False
    bytes: int = 0

    def expect_update(self, client: ClientName, key: Key) -> bool:
        if self.unwanted is not None:
            raise self.unwanted
        return key in self.accepted

    async def accept_update(self, client: ClientName, key: Key) -> None:
        path = self.folder / "spool" / key.run / f"{key.round}-{key.attempt}-{client}-{key.digest}"
        assert sha256_hex(path.read_bytes()) == key.digest
        await self._accept(key)

    def check_room(self, slot: Slot, missing: int) -> None:
        if self.full and missing:
            raise Unavailable(f"no room for {missing}", 10.0)

    def expect_model(self, client: ClientName, key: Key) -> None:
        if self.unwanted is not None:
            raise self.unwanted

    async def accept_model(self, client: ClientName, key: Key) -> None:
        assert (self.folder / "blobs" / key.digest).exists()
        await self._accept(key)

    async def discard_model(self, digest: Digest) -> None:
        self.discarded.append(digest)

    def received(self, key: Key, count: int) -> None:
        self.bytes += count

    async def _accept(self, key: Key) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.accepted.append(key)


@dataclass
class Site:
    """A coordinator's uploads; `again` is what a restart makes of the folder."""

    folder: Path
    workers: Workers
    desk: Desk
    uploads: Uploads
    presence: Presence

    @classmethod
    def at(cls, folder: Path, workers: Workers) -> "Site":
        presence = Presence(ManualClock(), 60.0)
        presence.hello(A, HELLO)
        blobs = LocalDir(folder / "blobs", AtRest(bytes(range(32))), system_entropy)
        desk = Desk(folder)
        uploads = Uploads(desk, Spool(folder / "spool", 1 << 30), blobs, presence, workers)
        return cls(folder, workers, desk, uploads, presence)

    def again(self) -> "Site":
        return Site.at(self.folder, self.workers)

    async def begin(self, key: Key = UPDATE) -> Progress:
        return await self.uploads.begin(A, key)

    async def send(self, chunks: Chunks, key: Key = UPDATE) -> Progress:
        return await self.uploads.receive(A, key, stream(chunks), lambda: None)

    def files(self) -> list[str]:
        return sorted(p.name for p in self.folder.rglob("*") if p.is_file())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    workers = Workers(2)
    with capture_logs():
        yield Site.at(tmp_path, workers)
    workers.close()


async def stream(chunks: Chunks) -> AsyncIterator[tuple[int, bytes]]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def cut(begin: int = 0, end: int = len(DATA), size: int = 1000) -> Chunks:
    return [(at, DATA[at : min(at + size, end)]) for at in range(begin, end, size)]


def run(work: Coroutine[object, object, None]) -> None:
    asyncio.run(work)


@pytest.mark.parametrize("key", [UPDATE, MODEL, OPERATORS], ids=["update", "model", "operator's model"])
def test_what_is_whole_is_durable_and_then_acknowledged(site: Site, key: Key) -> None:
    async def story() -> None:
        assert await site.begin(key) == Progress(0, False)
        assert await site.send(cut(end=3000), key) == Progress(3000, False)
        assert site.desk.accepted == []
        assert await site.begin(key) == Progress(3000, False)
        assert await site.send(cut(3000), key) == Progress(len(DATA), True)
        assert site.desk.accepted == [key]
        assert site.desk.bytes == len(DATA)
        assert (await site.begin(key)).complete  # the reply was lost

    run(story())


def test_an_update_goes_on_after_a_restart_and_a_model_begins_again(site: Site) -> None:
    async def story() -> None:
        for key in (UPDATE, MODEL):
            await site.send(cut(end=3000), key)
        after = site.again()
        assert await after.begin(UPDATE) == Progress(3000, False)
        assert await after.begin(MODEL) == Progress(0, False)
        assert (await after.send(cut(3000), UPDATE)).complete
        assert (await after.send(cut(), MODEL)).complete
        whole = after.again()  # killed between the file and the row
        assert (await whole.begin(UPDATE)).complete
        assert whole.desk.accepted == [UPDATE]

    run(story())


@pytest.mark.parametrize("key", [UPDATE, MODEL], ids=["update", "model"])
@pytest.mark.parametrize(
    ("chunks", "error", "words"),
    [
        ([(5, DATA[5:10])], Unavailable, "stands at byte 0 now, not 5"),
        ([(0, DATA[:10]), (20, DATA[20:30])], BadMessage, "at byte 20; the next one expected begins at 10"),
        ([(0, DATA[:10]), (0, DATA[:10])], BadMessage, "at byte 0; the next one expected begins at 10"),
        ([(0, DATA + b"x")], BadMessage, f"bytes 0 to {len(DATA) + 1} of an upload of {len(DATA)}"),
        ([(0, bytes(MAX_CHUNK + 1))], BadMessage, f"a chunk of {MAX_CHUNK + 1} bytes"),
        ([(0, DATA[:10]), (10, b"")], BadMessage, "a chunk of 0 bytes"),
    ],
)
def test_chunks_that_do_not_fit_are_refused_and_harm_nothing(
    site: Site, key: Key, chunks: Chunks, error: type[Error], words: str
) -> None:
    async def story() -> None:
        with pytest.raises(error, match=words):
            await site.send(chunks, key)
        here = (await site.begin(key)).offset
        assert here in (0, 10)
        assert (await site.send(cut(here), key)).complete

    run(story())


@pytest.mark.parametrize("key", [UPDATE, MODEL], ids=["update", "model"])
def test_other_bytes_than_announced_are_never_acknowledged(site: Site, key: Key) -> None:
    async def story() -> None:
        with pytest.raises(Corrupt, match=f"not {DIGEST}"):
            await site.send([(0, bytes(len(DATA)))], key)
        assert site.desk.accepted == []
        assert site.files() == []
        assert (await site.send(cut(), key)).complete

    run(story())


def test_a_model_sent_under_another_name_deletes_no_other_model(site: Site) -> None:
    async def story() -> None:
        await site.send(cut(), OPERATORS)
        lie = Key("model", RUN, 0, 0, sha256_hex(b"something else"), len(DATA))
        with pytest.raises(Corrupt):
            await site.send(cut(), lie)
        assert site.files() == [DIGEST]

    run(story())


def test_a_refused_update_is_deleted_and_a_refused_model_handed_to_the_desk(site: Site) -> None:
    async def story() -> None:
        site.desk.refusal = BadUpdate("a lane too high")
        for key in (UPDATE, MODEL):
            with pytest.raises(BadUpdate, match="lane"):
                await site.send(cut(), key)
        assert site.files() == [DIGEST]
        assert site.desk.discarded == [DIGEST]
        site.desk.refusal = WrongPhase("aggregating", "an upload")  # too late is no fault
        with pytest.raises(WrongPhase):
            await site.send(cut(), UPDATE)
        assert f"1-1-a-{DIGEST}" in site.files()

    run(story())


@pytest.mark.parametrize("key", [UPDATE, MODEL], ids=["update", "model"])
def test_a_newer_stream_takes_over(site: Site, key: Key) -> None:
    async def story() -> None:
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def hanging() -> AsyncIterator[tuple[int, bytes]]:
            yield 0, DATA[:1000]
            arrived.set()
            await go_on.wait()
            yield 1000, DATA[1000:2000]

        old = asyncio.create_task(site.uploads.receive(A, key, hanging(), lambda: None))
        await arrived.wait()
        while (here := await site.begin(key)).offset < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await site.send(cut(here.offset), key)).complete
        go_on.set()
        with pytest.raises(Unavailable, match="a newer upload of a took over"):
            await old
        assert site.desk.accepted == [key]

    run(story())


def test_a_client_cannot_take_over_from_an_operator_of_its_name(site: Site) -> None:
    async def story() -> None:
        await site.send(cut(end=2000), OPERATORS)
        await site.send(cut(end=1000), Key("model", RUN, 0, 0, sha256_hex(b"other"), len(DATA)))
        assert (await site.begin(OPERATORS)).offset == 2000

    run(story())


@pytest.mark.parametrize("key", [UPDATE, MODEL], ids=["update", "model"])
def test_revoked_in_the_middle(site: Site, key: Key) -> None:
    async def story() -> None:
        calls = iter([None, None, NotEnrolled("client 'a' was revoked")])

        def recheck() -> None:
            if (refusal := next(calls)) is not None:
                raise refusal

        with pytest.raises(NotEnrolled, match="revoked"):
            await site.uploads.receive(A, key, stream(cut()), recheck)
        assert site.desk.accepted == []
        assert (await site.begin(key)).offset == 2000

    run(story())


def full(monkeypatch: pytest.MonkeyPatch, after: int) -> Callable[[], None]:
    """Let the disk be full after some bytes; half of a chunk still fits.  Returns what empties it."""
    room, write = [after], os.pwrite

    def pwrite(file: int, data: bytes, offset: int) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(file, memoryview(data)[: room[0]], offset)
        room[0] -= count
        return count

    monkeypatch.setattr(os, "pwrite", pwrite)
    return monkeypatch.undo


def test_a_full_disk_is_told_before_anything_is_acknowledged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        make_room = full(monkeypatch, 2500)
        with pytest.raises(Unavailable, match="disk full"):
            await site.send(cut())
        assert await site.begin() == Progress(2000, False)  # half a chunk does not count
        with pytest.raises(Unavailable, match="disk full"):
            await site.send(cut(2000))
        assert site.desk.accepted == []
        make_room()
        assert (await site.send(cut(2000))).complete

    run(story())


def test_a_model_that_met_a_full_disk_begins_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    big = bytes(MAX_CHUNK)
    key = Key("model", RUN, 0, 0, sha256_hex(big * 3), 3 * MAX_CHUNK)
    chunks = [(n * MAX_CHUNK, big) for n in range(3)]

    async def story() -> None:
        make_room = full(monkeypatch, MAX_CHUNK + MAX_CHUNK // 2)
        with pytest.raises(Unavailable, match="disk full"):
            await site.send(chunks, key)
        assert await site.begin(key) == Progress(0, False)
        assert site.files() == []
        make_room()
        assert (await site.send(chunks, key)).complete

    run(story())


@pytest.mark.parametrize("key", [UPDATE, MODEL], ids=["update", "model"])
def test_no_room_is_told_before_a_byte_is_sent_but_not_of_what_is_here(site: Site, key: Key) -> None:
    async def story() -> None:
        site.desk.full = True
        with pytest.raises(Unavailable, match=f"no room for {len(DATA)}"):
            await site.begin(key)
        with pytest.raises(Unavailable, match=f"no room for {len(DATA)}"):  # who sends need not have asked
            await site.send(cut(), key)
        site.desk.full = False
        assert (await site.send(cut(), key)).complete
        site.desk.full = True
        assert (await site.begin(key)).complete

    run(story())


def test_what_nobody_wants_any_more_is_closed(site: Site) -> None:
    async def story() -> None:
        open_before = len(os.listdir("/proc/self/fd"))
        await site.send(cut(end=1000), MODEL)
        site.desk.unwanted = WrongPhase("not waiting for this client's initial model", "an upload")
        with pytest.raises(WrongPhase):
            await site.begin(MODEL)
        assert site.files() == []
        assert len(os.listdir("/proc/self/fd")) == open_before

    run(story())


def test_a_stream_that_breaks_off_leaves_what_came(site: Site) -> None:
    async def story() -> None:
        async def breaking() -> AsyncIterator[tuple[int, bytes]]:
            yield 0, DATA[:1000]
            await asyncio.Event().wait()

        for key in (UPDATE, MODEL):
            task = asyncio.create_task(site.uploads.receive(A, key, breaking(), lambda: None))
            while (await site.begin(key)).offset < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await site.send(cut(1000), key)).complete

    run(story())


def test_a_model_whose_sender_hangs_up_at_its_end_is_whole_or_not_there(site: Site) -> None:
    """Its last sync stands in line behind other files; nobody else would give its file up."""

    async def story() -> None:
        free, others = threading.Event(), list[asyncio.Future[bool]]()
        begun = asyncio.Event()

        async def last() -> AsyncIterator[tuple[int, bytes]]:
            for chunk in cut():
                yield chunk
            others[:] = [asyncio.ensure_future(site.workers.file(free.wait, 10.0)) for _ in range(2)]
            await asyncio.sleep(0)
            begun.set()

        task = asyncio.create_task(site.uploads.receive(A, MODEL, last(), lambda: None))
        await begun.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await asyncio.gather(*others)
        async with asyncio.timeout(5):
            while not (await site.begin(MODEL)).complete:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert not [name for name in site.files() if name.endswith(".part")]

    run(story())


@pytest.mark.parametrize("key", [UPDATE, MODEL], ids=["update", "model"])
def test_a_message_is_let_go_when_it_is_written(site: Site, key: Key) -> None:
    """Not when the next one comes: 32 slow links held 32 MiB."""

    async def story() -> None:
        views = [memoryview(data) for _, data in cut()]

        async def chunks() -> AsyncIterator[tuple[int, memoryview]]:
            for (at, _), view in zip(cut(), views, strict=True):
                yield at, view
                await asyncio.sleep(0.01)  # as one whose next chunk takes a while
                assert views[0] is view or _released(views[0])

        assert await site.uploads.receive(A, key, chunks(), lambda: None) == Progress(len(DATA), True)
        assert all(map(_released, views))

    run(story())


def _released(view: memoryview) -> bool:
    try:
        len(view)
    except ValueError:
        return True
    return False


def test_many_large_uploads_end_their_connections(site: Site) -> None:
    """Else the coordinator would hold 1.6 MB for each client, round after round."""
    large = replace(UPDATE, bytes=LARGE)
    for number in range(FEW - 1):
        site.presence.hello(ClientName(f"b{number}"), HELLO)
    assert not site.uploads.ends_connection(large)  # of as many as it has room for
    assert site.uploads.needs_no_begin(UPDATE)
    assert not site.uploads.needs_no_begin(OPERATORS)
    site.presence.hello(ClientName("c"), HELLO)
    assert site.uploads.ends_connection(large)
    assert not site.uploads.ends_connection(replace(large, bytes=LARGE - 1))
    assert not site.uploads.needs_no_begin(UPDATE)
