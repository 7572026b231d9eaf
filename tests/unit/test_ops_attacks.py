"""Somebody who reaches the ops port means harm: what is held, who has to wait, what is counted wrong."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from federation_world import Play, until
from ops_world import Browser, Watched, watched
from structlog.testing import capture_logs

from unisono.server.ops import application, connection, line
from unisono.server.ops.documents import AT_ONCE
from unisono.server.ops.door import MAX_HEADERS
from unisono.server.ops.gauges import Gauges
from unisono.server.ops.health import Ready
from unisono.server.ops.port import OpsPort
from unisono.server.runtime.operators import Document, Operators


async def opened(port: int, count: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    return [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]


def connections(port: OpsPort) -> int:
    return len(port._server.server_state.connections) if port._server else 0


def questions(port: OpsPort) -> int:
    return len(port._server.server_state.tasks) if port._server else 0


async def ended(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""


def test_idle_connections_keep_nobody_out(path: Path, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A health check that got no answer would have the coordinator restarted."""
    monkeypatch.setattr(connection, "MOST_OPEN", 8)

    async def story() -> None:
        async with watched(path) as seen:
            idle = await opened(seen.port.port, 8)
            for _ in range(12):
                assert (await Browser(seen.port.port).get("/healthz")).status == 200
            await ended(idle[0][0])  # the oldest had to go
            for _, writer in idle:
                writer.close()

    play(story())


def test_who_waits_for_documents_keeps_no_health_check_out(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for documents all the time, on all connections that there may be."""
    monkeypatch.setattr(connection, "MOST_OPEN", 8)
    gate = asyncio.Event()

    async def slow(operators: Operators) -> Document:
        await gate.wait()
        return {}

    monkeypatch.setattr(Operators, "health", slow)

    async def story() -> None:
        async with watched(path) as seen:
            strangers = await opened(seen.port.port, 8)
            for _, writer in strangers:
                writer.write(seen.browser.request("/api/v1/health"))
            await until(lambda: questions(seen.port) == 8)
            fresh = await opened(seen.port.port, 4)  # younger, and as idle as a check that was just accepted
            for _ in range(3):
                assert (await Browser(seen.port.port).get("/healthz")).status == 200
            await ended(strangers[0][0])  # the first to ask is the first to go
            gate.set()
            assert (await strangers[7][0].read()).endswith(b"{}")
            for _, writer in (*strangers, *fresh):
                writer.close()

    play(story())


def test_a_health_check_that_waits_for_the_database_is_not_pushed_out(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_OPEN", 4)
    gate = asyncio.Event()

    async def slow(hall: object, certificate: object) -> Ready:
        await gate.wait()
        return Ready(status="ready", checks={})

    monkeypatch.setattr(application, "ready", slow)

    async def story() -> None:
        async with watched(path) as seen:
            check = asyncio.create_task(Browser(seen.port.port).get("/readyz"))
            await until(lambda: questions(seen.port) == 1)
            strangers = await opened(seen.port.port, 12)
            await ended(strangers[0][0])
            gate.set()
            assert (await check).status == 200
            for _, writer in strangers:
                writer.close()

    play(story())


def test_where_nobody_is_idle_one_more_is_sent_away(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_OPEN", 4)

    async def story() -> None:
        async with watched(path) as seen:
            for _ in range(4):
                await seen.browser.stream("/api/v1/events")
            [(reader, writer)] = await opened(seen.port.port, 1)
            await ended(reader)
            writer.close()

    play(story())


def test_who_asks_for_much_and_reads_nothing_is_sent_away(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests in advance: the answer that does not fit any more waited for its reader for ever."""
    monkeypatch.setattr(connection, "PATIENCE", 0.05)

    async def story() -> None:
        async with watched(path) as seen:
            with socket.socket() as greedy:
                greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                greedy.connect(("127.0.0.1", seen.port.port))
                greedy.sendall(seen.browser.request("/static/uplot.js", Connection="") * 300)
                await until(lambda: connections(seen.port))
                await until(lambda: not connections(seen.port))

    play(story())


def test_scrapes_at_the_same_time_see_the_same(path: Path, play: Play) -> None:
    """One cleared the gauges of runs while another wrote them down: "no run goes on"."""

    async def story() -> None:
        async with watched(path) as seen:
            run, _ = await seen.federation.begun("a", "b")
            for _ in range(5):
                answers = await asyncio.gather(*(Browser(seen.port.port).get("/metrics") for _ in range(16)))
                for answer in answers:
                    assert answer.status == 200
                    for name in ("round", "rounds", "phase_seconds", "waits_for_clients", "attempt"):
                        assert f'unisono_run_{name}{{run="{run}"}}'.encode() in answer.body, name

    play(story())


def test_asking_for_the_health_all_the_time_is_one_look(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token is needed for it, and each look would wait in the line of the rounds' database."""

    async def story() -> None:
        async with watched(path) as seen:
            looks = []
            monkeypatch.setattr(seen.federation.hall.store, "active", lambda: looks.append(1))
            answers = await asyncio.gather(*(Browser(seen.port.port).get("/readyz") for _ in range(16)))
            assert {answer.status for answer in answers} == {200}
            assert len(looks) == 1

    play(story())


def test_documents_leave_threads_to_the_rounds(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, most = 0, 0

    async def slow(operators: Operators) -> Document:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(0.01)
        asked -= 1
        return {}

    monkeypatch.setattr(Operators, "health", slow)

    async def story() -> None:
        async with watched(path) as seen:
            many = (Browser(seen.port.port).get("/api/v1/health") for _ in range(10))
            assert {answer.status for answer in await asyncio.gather(*many)} == {200}
            assert most == AT_ONCE

    play(story())


async def gone(seen: Watched, path: str, count: int) -> None:
    """Ask so many times, and hang up at once."""
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", seen.port.port)
        writer.write(seen.browser.request(path))
        await writer.drain()
        writer.transport.abort()
    await until(lambda: not connections(seen.port))


@pytest.mark.parametrize(
    "asked", [("/api/v1/health", Operators, "health", AT_ONCE), ("/metrics", Gauges, "exposition", 1)]
)
def test_nothing_is_made_for_who_has_hung_up(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, type, str, int]
) -> None:
    """Each of a stranger's questions was answered, one after another, before the owner's."""
    monkeypatch.setattr(line, "MOST_WAITING", 20)
    address, where, what, at_once = asked
    made = 0

    async def story() -> None:
        gate, real = asyncio.Event(), getattr(where, what)

        async def slow(self: object) -> object:
            nonlocal made
            made += 1
            await gate.wait()
            return await real(self)

        monkeypatch.setattr(where, what, slow)
        async with watched(path) as seen:
            await gone(seen, address, 40)
            assert (await Browser(seen.port.port).get(address)).status == 503  # more are not taken in
            assert made == at_once
            gate.set()
            await until(lambda: not questions(seen.port))
            assert made == at_once
            assert (await Browser(seen.port.port).get(address)).status == 200

    play(story())


def test_a_bug_behind_the_door_is_an_answer_and_a_line(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(gauges: Gauges) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Gauges, "exposition", broken)

    async def story() -> None:
        async with watched(path) as seen:
            with capture_logs() as lines:
                answer = await seen.browser.get("/metrics")
            assert answer.status == 500
            assert b"ZeroDivision" not in answer.body
            assert [line["event"] for line in lines if line["log_level"] == "error"] == ["ops_request_failed"]
            assert (await seen.browser.get("/healthz")).status == 200

    play(story())


@pytest.mark.parametrize(
    ("method", "large", "status"), [("GET", "", 400), ("POST", "", 405), ("GET", "a" * MAX_HEADERS, 431)]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Transfer-Encoding": "chunked"},
        {"Content-Length": "44"},
        {"Content-Length": "44", "Transfer-Encoding": "chunked"},
    ],
    ids=["chunked", "length", "both"],
)
def test_a_body_is_no_way_past_a_proxy(
    path: Path, play: Play, headers: dict[str, str], method: str, large: str, status: int
) -> None:
    """Of what follows a question nothing is answered: a proxy may have taken it for the question's body."""

    async def story() -> None:
        async with watched(path) as seen:
            asked = seen.browser.request("/healthz", method, Connection="keep-alive", X=large, **headers)
            smuggled = seen.browser.request("/api/v1/health")
            reader, writer = await asyncio.open_connection("127.0.0.1", seen.port.port)
            writer.write(asked + b"0\r\n\r\n" + smuggled)
            with contextlib.suppress(ConnectionResetError):
                answers = await reader.read()
                assert answers.count(b"HTTP/1.1 ") == 1
                assert answers.startswith(b"HTTP/1.1 %d " % status)
            writer.close()
            assert (await seen.browser.get("/healthz", Content_Length="0")).status == 200

    play(story())
