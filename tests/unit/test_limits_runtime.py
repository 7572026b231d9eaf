"""Queues, bells and places that are bounded, and who is not blamed for what takes long at the coordinator."""

import asyncio
import gc
import resource
import threading
from pathlib import Path

import pytest
from federation_world import until
from structlog.testing import capture_logs
from test_driver_batches import Stage, uploaded
from test_runtime_uploads import RUN, UPDATE, A, Desk, Site, cut

from unisono.base.clock import ManualClock
from unisono.base.errors import Unavailable
from unisono.base.ids import ClientName
from unisono.server import process
from unisono.server.rounds import Lost
from unisono.server.runtime import driver as driver_module
from unisono.server.runtime import uploads as uploading
from unisono.server.runtime.bell import Bells
from unisono.server.runtime.driver import Driver
from unisono.server.runtime.joins import MOST_ADDRESSES, Joins, address_of
from unisono.server.runtime.room import AGAIN, Room
from unisono.server.runtime.uploads import Key
from unisono.server.runtime.workers import Workers


def test_a_run_writes_down_what_waits_before_it_takes_more() -> None:
    stage = Stage()

    async def story(driver: Driver) -> None:
        driver._most_waiting = 3
        saving, hangs = threading.Event(), threading.Event()

        def save() -> None:
            saving.set()
            assert hangs.wait(5)

        stage.store.before = save
        first = asyncio.ensure_future(driver.handle(uploaded(A)))
        await asyncio.to_thread(saving.wait, 5)
        events = [Lost(ClientName(f"c-{number}"), "left") for number in range(3)]
        waiting = [asyncio.ensure_future(driver.handle(event)) for event in events]
        await until(lambda: len(driver._inbox) == 3)
        with pytest.raises(Unavailable, match="has 3 messages to write down first") as caught:
            await driver.handle(Lost(ClientName("more"), "left"))
        assert caught.value.retry_after == 1.0
        hangs.set()
        await asyncio.gather(first, *waiting)
        await driver.handle(Lost(ClientName("more"), "left"))

    stage.play(story)


def test_what_waits_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "MOST_WAITING_BYTES", 100)
    stage = Stage()

    async def story(driver: Driver) -> None:
        saving, hangs = threading.Event(), threading.Event()

        def save() -> None:
            saving.set()
            assert hangs.wait(5)

        stage.store.before = save
        first = asyncio.ensure_future(driver.handle(uploaded(A)))
        await asyncio.to_thread(saving.wait, 5)
        large = asyncio.ensure_future(
            driver.handle(Lost(ClientName("x"), "left"), 200)
        )  # alone: it must pass
        await until(lambda: len(driver._inbox) == 1)
        with pytest.raises(Unavailable, match="has 1 messages to write down first"):
            await driver.handle(Lost(ClientName("y"), "left"), 1)
        empty = asyncio.ensure_future(driver.handle(Lost(ClientName("z"), "left")))
        hangs.set()
        await asyncio.gather(first, large, empty)
        await driver.handle(Lost(ClientName("y"), "left"), 1)

    stage.play(story)


def test_a_bell_is_there_only_while_somebody_waits() -> None:
    async def story() -> None:
        bells = Bells()
        for number in range(1000):
            bells.ticket(f"r-{number:04}")  # asked about and gone
        gc.collect()
        assert len(bells._rung) == 0
        ticket, other = bells.ticket("a"), bells.ticket("a")
        assert ticket is other
        bells.ring(("a",))
        await bells.wait(ticket, 5.0)
        assert bells.ticket("a") is not ticket  # the next wait is for the next ring

    asyncio.run(story())


@pytest.mark.parametrize("slow", ["sync", "sum"])
def test_what_takes_long_here_is_no_silence_of_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """A large update is synced for minutes on a slow disk: its sender was lost, with all bytes there."""
    monkeypatch.setattr(uploading, "SIGN", 0.001)
    workers, hangs = Workers(2), threading.Event()
    site = Site.at(tmp_path, workers)
    presence = site.uploads._presence
    clock = presence.clock
    assert isinstance(clock, ManualClock)
    if slow == "sync":
        monkeypatch.setattr(site.uploads, "_settle", lambda part: (hangs.wait(5), part.finish()))
    else:
        desk, accept = site.desk, site.desk.accept_update

        async def later(client: ClientName, key: Key) -> None:
            await asyncio.to_thread(hangs.wait, 5)
            await accept(client, key)

        monkeypatch.setattr(desk, "accept_update", later)

    async def story() -> None:
        presence.silence(RUN, {A})
        upload = asyncio.ensure_future(site.send(cut(), UPDATE))
        for _ in range(5):
            clock.advance(50.0)
            await until(lambda: presence.silence(RUN, {A})[A] == 0.0)  # the next sign of life
        hangs.set()
        assert (await upload).complete
        clock.advance(60.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert presence.silence(RUN, {A})[A] == 60.0  # from then on it is the client's again

    with capture_logs():
        asyncio.run(story())
    workers.close()
    assert isinstance(site.desk, Desk)


def test_as_many_files_as_may_be_are_opened() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        process._allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_addresses_are_forgotten_and_their_number_is_bounded() -> None:
    clock = ManualClock()
    joins = Joins(2.0, 1e9, clock)
    for number in range(3 * MOST_ADDRESSES):
        joins.admit(f"ipv4:10.{number >> 16}.{number >> 8 & 255}.{number & 255}:999")
    assert len(joins._addresses) <= MOST_ADDRESSES
    clock.advance(60.0)
    joins.admit("ipv4:1.2.3.4:1")
    assert len(joins._addresses) == 1  # the others have nothing to be remembered for


def test_one_address_takes_nothing_of_what_others_have() -> None:
    joins = Joins(2.0, 4.0, ManualClock())
    for _ in range(2):
        joins.admit("ipv4:1.1.1.1:5")
    for _ in range(50):
        with pytest.raises(Unavailable, match=r"too many tries to join from 1\.1\.1\.1"):
            joins.admit("ipv4:1.1.1.1:6")
    for peer in ("ipv4:2.2.2.2:7", "ipv4:3.3.3.3:7"):
        joins.admit(peer)
    with pytest.raises(Unavailable, match=r"too many tries to join$"):
        joins.admit("ipv4:4.4.4.4:7")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:50052", "127.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:443", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("ipv6:%5B::1%5D:443", "0:0:0:0::/64"),
        ("ipv6:%5B::ffff:10.1.2.3%5D:443", "::ffff:10.1.2.3"),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_the_address_of_a_peer(peer: str, address: str) -> None:
    assert address_of(peer) == address


def test_a_folder_is_measured_now_and_then(tmp_path: Path) -> None:
    clock = ManualClock()
    room = Room(tmp_path, clock)
    assert room.used() == 0
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "x").write_bytes(bytes(1000))
    room.promise("a", 70)
    room.promise("b", 5)
    assert room.used() == room.used(but="c") == 75
    assert room.used(but="a") == 5  # what is asked for again needs no room beside itself
    room.promise("a", 60)
    assert room.used() == 65
    clock.advance(AGAIN)
    assert room.used() == 1000
