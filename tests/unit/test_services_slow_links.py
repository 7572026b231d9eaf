"""A model over a slow link with megabytes of buffers in it, and over one that breaks: real TLS, real gRPC.

Five times as fast as life: 60 kB/s instead of 12, and pings that are given up after two seconds, not ten.
(`tests/e2e/test_slow_links.py` is life.)
"""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import time
from typing import TYPE_CHECKING

import federation_world
import pytest
from federation_world import Caller, Federation, Play, serving
from relay import Relay, Relays

from unisono.base.errors import Unreachable
from unisono.base.ids import ClientName, RunId
from unisono.base.system_clock import SystemClock
from unisono.client.runtime import channel, strides
from unisono.client.runtime.cache import Cache
from unisono.client.runtime.channel import Credentials
from unisono.client.runtime.downloads import fetch
from unisono.client.runtime.halt import Halt, Halted
from unisono.client.runtime.link import Capabilities, Link
from unisono.client.session import Attempt
from unisono.crypto import sha256, sha256_hex
from unisono.tensors import Entry, Manifest
from unisono.wire.v1.transfer_pb2 import DownloadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from unisono.base.ids import Digest

FASTER = 5
RATE, PING, SECONDS = 12_000.0 * FASTER, 10_000 // FASTER, 4.0 / FASTER
LENGTH = 60_000
MANIFEST = Manifest((Entry("w", (LENGTH,), "F32", travels=True),), ())
MODEL = MANIFEST.header + bytes(4 * LENGTH)
ATTEMPT = Attempt(RunId("r-0001"), 1, 1)


@pytest.fixture
def relays(monkeypatch: pytest.MonkeyPatch) -> Iterator[Relays]:
    pings = {"grpc.http2.ping_timeout_ms": PING}
    options = tuple((name, pings.get(name, value)) for name, value in channel.OPTIONS)
    assert options != channel.OPTIONS
    monkeypatch.setattr(channel, "OPTIONS", options)
    monkeypatch.setattr(strides, "SECONDS", SECONDS)
    monkeypatch.setattr(federation_world, "MANIFEST", MANIFEST)
    monkeypatch.setattr(federation_world, "MODEL", MODEL)
    made = Relays()
    yield made
    made.close()


class Site:
    """A client's side of a download: its link, its cache, and what happened."""

    def __init__(self, caller: Caller, port: int, cache: Cache) -> None:
        mine = Credentials(caller.ca, caller.certificate, caller.key.to_pem())
        can = Capabilities(("x",), ("sealed",), ("fedavg",))
        self.halt, self.cache = Halt(), cache
        self.link = Link(lambda: mine, f"localhost:{port}", can, SystemClock(), self.halt)
        self.places, self.breaks = list[int](), 0

    def fetch(self, digest: Digest, moved: Callable[[int], None]) -> None:
        """Do as the driver does: after a break, connect anew and go on."""

        def progress(done: int, total: int) -> None:
            self.link.progress(ATTEMPT, "downloading", done, total)
            self.places.append(done)
            moved(done)

        while True:
            try:
                self.link.open()
                self.link.hello()
                return fetch(self.link, self.cache, digest, len(MODEL), progress)
            except Unreachable:
                self.breaks += 1
                assert self.breaks < 12, self.places

    def close(self) -> None:
        self.link.close()
        self.halt.close()


async def site(federation: Federation, relays: Relays, folder: Path) -> tuple[Site, Relay]:
    """Return a site of a run that goes on, behind a link of its own."""
    _, callers = await federation.begun("anna", "bela")
    relay = await asyncio.to_thread(relays.add, ("127.0.0.1", 0), ("127.0.0.1", federation.port))
    return Site(callers[1], relay.address[1], Cache(folder / "cache", bytes(32))), relay


def test_a_model_comes_although_pings_wait_behind_it(path: Path, play: Play, relays: Relays) -> None:
    """The connection was given up, and all of it sent again, as long as anybody cared to look."""
    shown = set[tuple[str, int]]()

    async def story() -> None:
        async with serving(path) as federation:
            here, relay = await site(federation, relays, path)
            presence, bela = federation.hall.presence, ClientName("bela")

            def look(done: int) -> None:
                session = presence.get(bela)
                assert session is not None
                shown.add((session.stage, session.done))

            relay.slow(0.0, RATE)
            began = time.monotonic()
            await asyncio.to_thread(here.fetch, sha256_hex(MODEL), look)
            print(f"{len(MODEL)} bytes: {time.monotonic() - began:.1f} s, {relay.down} bytes, {here.breaks}")
            here.close()
            assert here.cache.has(sha256_hex(MODEL), len(MODEL))
            assert here.breaks >= 1, "there was nothing to mend"
            assert here.places == sorted(here.places), "it began again"
            assert relay.down < 2 * len(MODEL)

    play(story())
    assert {stage for stage, _ in shown} == {"downloading"}
    assert len(shown) > 3


def test_a_link_that_breaks_again_and_again_brings_the_model_nearer_each_time(
    path: Path, play: Play, relays: Relays
) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            here, relay = await site(federation, relays, path)
            relay.slow(0.0, RATE)
            over = asyncio.Event()

            async def cuts() -> None:
                while not over.is_set():
                    await asyncio.sleep(1.5)
                    await asyncio.to_thread(relay.cut)

            cutting = asyncio.ensure_future(cuts())
            await asyncio.to_thread(here.fetch, sha256_hex(MODEL), lambda done: None)
            over.set()
            await cutting
            here.close()
            assert here.cache.has(sha256_hex(MODEL), len(MODEL))
            assert here.places == sorted(here.places), "it began again"
            assert here.breaks >= 2

    play(story())


def test_who_is_to_end_does_not_wait_for_a_slow_link(path: Path, play: Play, relays: Relays) -> None:
    """What has come stays, to the last byte."""

    async def story() -> None:
        async with serving(path) as federation:
            here, relay = await site(federation, relays, path)
            relay.slow(0.0, RATE)
            fetching = asyncio.ensure_future(
                asyncio.to_thread(here.fetch, sha256_hex(MODEL), lambda done: None)
            )
            await federation_world.until(lambda: here.breaks and len(here.places) > 2)
            began = time.monotonic()
            here.halt.ask()
            with pytest.raises(Halted):
                await fetching
            assert time.monotonic() - began < 1.0
            here.close()
            with here.cache.arriving(sha256_hex(MODEL), len(MODEL)) as arriving:
                assert arriving.offset == here.places[-1]

    play(story())


def test_a_fast_line_carries_all_of_a_model_in_one_stream(path: Path, play: Play, relays: Relays) -> None:
    """Also after a break, once a stream has shown that the line is fast again."""
    asked = list[tuple[int, int]]()

    async def story() -> None:
        async with serving(path) as federation:
            here, _ = await site(federation, relays, path)
            stream = here.link._stream

            def watched(request: object, take: object) -> None:
                asked.append((request.offset, request.length))  # type: ignore[attr-defined]
                stream(request, take)  # type: ignore[arg-type]

            here.link._stream = watched  # type: ignore[method-assign]
            digest = sha256_hex(MODEL)
            await asyncio.to_thread(here.fetch, digest, lambda done: None)
            assert asked == [(0, 0)]
            here.cache.remove(digest)
            here.link._strides.broke()
            await asyncio.to_thread(here.fetch, digest, lambda done: None)
            here.close()
            assert asked[1] == (0, 64 << 10)
            assert here.cache.has(digest)

    play(story())


def test_a_short_stream_says_when_its_turn_has_come(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            _, callers = await federation.begun("anna", "bela")
            model = federation_world.MODEL
            asked = DownloadRequest(sha256=sha256(model), offset=3, length=5)
            chunks = [(chunk.offset, chunk.data) async for chunk in callers[1].transfers.Download(asked)]
            assert chunks == [(3, b""), (3, model[3:8])]

    play(story())


@pytest.mark.parametrize(("delay", "rate"), [(0.0, 4_000.0), (0.6, 0.0)])
def test_a_connection_may_take_its_time(
    path: Path, play: Play, relays: Relays, delay: float, rate: float
) -> None:
    """It was given up after a second: a handshake of 4.5 kB, and two round trips, did not fit into that."""

    async def story() -> None:
        async with serving(path) as federation:
            caller = await federation.client("bela")
            relay = await asyncio.to_thread(relays.add, ("127.0.0.1", 0), ("127.0.0.1", federation.port))
            here = Site(caller, relay.address[1], Cache(path / "cache", bytes(32)))
            relay.slow(delay, rate)
            began = time.monotonic()
            here.link.open()
            found = await asyncio.to_thread(here.link.hello)
            assert found.name == "bela"
            assert time.monotonic() - began > 1.0
            here.close()

    play(story())
