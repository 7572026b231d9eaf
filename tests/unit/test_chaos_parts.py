"""The parts of `make chaos` that can lie: its timetable and its links."""

import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from relay import Relay, Relays
from timetable import COORDINATOR, KEEPALIVE, timetable

CLIENTS = tuple(f"site-{number}" for number in range(1, 6))


def test_a_seed_is_a_timetable() -> None:
    first = timetable(7, 300.0, CLIENTS, disks=True)
    assert first == timetable(7, 300.0, CLIENTS, disks=True)
    assert first != timetable(8, 300.0, CLIENTS, disks=True)
    assert all(before.at <= after.at for before, after in pairwise(first))


@pytest.mark.parametrize("seed", range(20))
def test_five_minutes_hold_every_kind_and_pauses_that_outlast_the_keepalive(seed: int) -> None:
    faults = timetable(seed, 300.0, CLIENTS, disks=True)
    assert len({fault.kind for fault in faults}) == 10
    assert {fault.target for fault in faults} == {COORDINATOR, *CLIENTS}
    assert any(fault.kind in {"stop", "half_open", "dark"} and fault.seconds > KEEPALIVE for fault in faults)
    for fault in faults:
        later = [f for f in faults if f.target == fault.target and fault.at < f.at <= fault.end]
        assert later == [], "one trouble at a time"


def test_without_small_disks_none_is_filled() -> None:
    assert not any(f.kind.startswith("disk") for f in timetable(1, 300.0, CLIENTS, disks=False))


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A link to somebody who says everything back."""
    relays, server = Relays(), socket.create_server(("127.0.0.1", 0))

    def echo(peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(1 << 16):
                    peer.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(peer,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield relays.add(("127.0.0.1", 0), server.getsockname()[:2])
    relays.close()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def talk(peer: socket.socket, size: int = 5) -> bytes:
    peer.sendall(b"x" * size)
    found = b""
    while len(found) < size and (data := peer.recv(1 << 16)):
        found += data
    return found


def dial(relay: Relay) -> socket.socket:
    return socket.create_connection(relay.address, timeout=0.5)


def test_a_link_carries_and_counts(relay: Relay) -> None:
    with dial(relay) as peer:
        assert talk(peer, 300_000) == b"x" * 300_000
    assert relay.up == 300_000


def test_a_cut_is_a_reset_and_the_next_connection_works(relay: Relay) -> None:
    with dial(relay) as peer:
        assert talk(peer) == b"xxxxx"
        relay.cut()
        with pytest.raises(ConnectionResetError):
            talk(peer)
    with dial(relay) as peer:
        assert talk(peer) == b"xxxxx"
    assert relay.cuts == 1


def test_a_cut_comes_after_so_many_bytes(relay: Relay) -> None:
    relay.cut_after(100_000)
    with dial(relay) as peer, pytest.raises((ConnectionResetError, BrokenPipeError)):
        talk(peer, 3_000_000)
    assert 100_000 <= relay.up < 3_000_000


def test_what_is_forgotten_hangs_and_what_is_new_works(relay: Relay) -> None:
    with dial(relay) as old, dial(relay) as new:
        assert talk(old) == b"xxxxx"
        relay.forget()
        with pytest.raises(TimeoutError):
            talk(old)
        with dial(relay) as fresh:
            assert talk(fresh) == b"xxxxx"
        relay.heal()
        with pytest.raises(ConnectionResetError):
            old.recv(5)
        del new


def test_nothing_passes_in_the_dark(relay: Relay) -> None:
    relay.dark()
    with dial(relay) as peer, pytest.raises(TimeoutError):
        talk(peer)
    relay.heal()
    with dial(relay) as peer:
        assert talk(peer) == b"xxxxx"


def test_a_slow_link_takes_its_time(relay: Relay) -> None:
    relay.slow(0.05, 1_000_000.0)
    began = time.monotonic()
    with dial(relay) as peer:
        assert talk(peer, 100_000) == b"x" * 100_000
    assert time.monotonic() - began >= 2 * 0.05 + 0.1
