"""Who is let in at the ops port, over real HTTP."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from federation_world import Play, until
from ops_world import Browser, event, watched

from unisono.base.errors import BadConfiguration
from unisono.server.config import Config
from unisono.server.ops import connection, live
from unisono.server.ops.port import OpsPort

TOKEN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "way", ["/nothing", "/api/v1/nothing", "/static/", "/static", "/progress/", "/apI/v1/runs"]
)
def test_unknown_paths(path: Path, play: Play, way: str) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            assert (await seen.browser.get(way)).status == 404

    play(story())


def test_only_reading(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"):
                for way in ("/api/v1/runs", "/", "/nothing"):
                    answer = await seen.browser.get(way, method)
                    assert answer.status == 405, method
                    assert answer.headers["allow"] == "GET, HEAD"
            head = await seen.browser.get("/api/v1/runs", "HEAD")
            whole = await seen.browser.get("/api/v1/runs")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-length"] == str(len(whole.body))

    play(story())


@pytest.mark.parametrize(
    "way",
    [
        "/static/../port.py",
        "/static/%2e%2e/port.py",
        "/static/..%2fport.py",
        "/static//etc/passwd",
        "/../../etc/passwd",
        "/static/%00",
        "/api/v1/runs/..%2f..%2fhealth",
        "//etc/passwd",
    ],
)
def test_no_way_out_of_the_folder(path: Path, play: Play, way: str) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            assert (await seen.browser.get(way)).status == 404

    play(story())


def test_huge_headers_and_no_http_at_all(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            assert (await seen.browser.get("/", Cookie="x" * 17_000)).status in {400, 431}
            assert (await seen.browser.get("/", Cookie="x" * 200_000)).status in {0, 400, 431}
            many = seen.browser.request("/").replace(b"\r\n\r\n", b"\r\n" + b"A: b\r\n" * 10_000 + b"\r\n")
            assert (await seen.browser.send(many)).status in {0, 400, 431}
            assert (await seen.browser.get("/" + "a" * 100_000)).status in {0, 400, 404, 414}
            assert (
                await seen.browser.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
            ).status == 400
            assert (await seen.browser.get("/healthz")).status == 200

    play(story())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8444", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8444", 200),
        ("10.9.8.7", 200),
        ("evil.example", 403),
        ("evil.example:8444", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.0.0.1@evil.example", 403),
        ("", 400),
    ],
)
def test_a_name_that_is_not_ours_is_refused(path: Path, play: Play, host: str, status: int) -> None:
    """DNS rebinding: the page of evil.example gives its name our address and asks."""

    async def story() -> None:
        async with watched(path) as seen:
            assert (await seen.browser.get("/api/v1/clients", Host=host)).status == status

    play(story())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_pages_of_others_are_refused(path: Path, play: Play, headers: dict[str, str], status: int) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            answer = await seen.browser.get("/api/v1/runs", **headers)
            assert answer.status == status
            assert not [name for name in answer.headers if name.startswith("access-control")]
            ours = await seen.browser.get("/api/v1/runs", Origin=f"http://localhost:{seen.port.port}")
            assert ours.status == 200

    play(story())


def test_what_a_browser_holds_pages_to(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            for way in ("/", "/api/v1/runs", "/nothing", "/static/uplot.js"):
                answer = await seen.browser.get(way)
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["cross-origin-resource-policy"] == "same-origin"

    play(story())


def test_the_token(path: Path, play: Play, tmp_path: Path) -> None:
    file = tmp_path / "ops.token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)

    async def story() -> None:
        async with watched(path, {"ops_token_file": str(file)}) as seen:
            for way in ("/api/v1/runs", "/api/v1/events", "/metrics", "/api/v1/nothing"):
                for wrong in ("", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"):
                    refused = await seen.browser.get(way, Authorization=wrong)
                    assert refused.status == 401, (way, wrong)
                    assert refused.headers["www-authenticate"].startswith("Bearer")
                    assert TOKEN.encode() not in refused.body
            assert (await seen.browser.get("/api/v1/runs", Authorization=f"bearer {TOKEN}")).status == 200
            for way in ("/", "/static/uplot.js", "/healthz", "/readyz"):  # no data, or for probes
                assert (await seen.browser.get(way)).status == 200

    play(story())


def test_a_port_that_is_taken_is_told_at_the_start() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BadConfiguration, match=f"127.0.0.1:{port} for the dashboard") as caught:
            OpsPort(Config(ops_port=port))
    assert "--ops-port" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",  # noqa: S104
        "::",
        "192.0.2.1",
        "fl.example.org",
    ],
)
def test_open_to_others_only_with_a_token(host: str) -> None:
    with pytest.raises(BadConfiguration, match="ops_token_file"):
        OpsPort(Config(ops_host=host, ops_port=0))


def test_a_token_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(BadConfiguration, match="No such file"):
        OpsPort(Config(ops_port=0, ops_token_file=str(file)))
    file.write_text("short")
    file.chmod(0o600)
    with pytest.raises(BadConfiguration, match="5 characters"):
        OpsPort(Config(ops_port=0, ops_token_file=str(file)))
    file.chmod(0o644)
    with pytest.raises(BadConfiguration, match="chmod 600"):
        OpsPort(Config(ops_port=0, ops_token_file=str(file)))


def test_many_who_say_nothing_do_not_stop_the_others(path: Path, play: Play) -> None:
    async def story() -> None:
        async with watched(path) as seen:
            idle = [await asyncio.open_connection("127.0.0.1", seen.port.port) for _ in range(20)]
            for _, writer in idle:
                writer.write(b"GET / HTTP/1.1\r\nHost: loc")
            assert (await Browser(seen.port.port).get("/healthz")).status == 200
            for _, writer in idle:
                writer.close()

    play(story())


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: loc"], ids=["nothing", "half"])
def test_who_asks_for_nothing_is_sent_away(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Without a token too: each connection is a file that the coordinator cannot open for a client."""
    monkeypatch.setattr(connection, "PATIENCE", 0.05)

    async def story() -> None:
        async with watched(path) as seen:
            reader, writer = await asyncio.open_connection("127.0.0.1", seen.port.port)
            writer.write(said)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    play(story())


def test_a_byte_after_an_answer_holds_nothing(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.05)

    async def story() -> None:
        async with watched(path) as seen:
            reader, writer = await asyncio.open_connection("127.0.0.1", seen.port.port)
            writer.write(seen.browser.request("/healthz", Connection=""))
            assert b" 200 " in await reader.readuntil(b"}")
            writer.write(b"G")
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    play(story())


def test_events_are_not_cut_off(path: Path, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.02)
    monkeypatch.setattr(live, "PAUSE", 0.02)
    monkeypatch.setattr(live, "SHARE", 1.0)
    looks = list[object]()

    async def story() -> None:
        async with watched(path) as seen:
            look = seen.ops.live._look

            def counted() -> dict[str, object]:
                looks.append(None)
                return look()

            monkeypatch.setattr(seen.ops.live, "_look", counted)
            reader = await seen.browser.stream("/api/v1/events")
            assert (await event(reader))["clients_online"] == 0
            site = await seen.federation.client("a")
            before = len(looks)
            await until(lambda: len(looks) >= before + 5)
            await site.hello()
            while (await event(reader))["clients_online"] != 1:
                pass

    play(story())
