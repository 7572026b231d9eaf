"""A coordinator with its ops port in this process, and a caller that speaks plain HTTP/1.1 with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federation_world import Federation, serving

from unisono.server.ops.application import Ops
from unisono.server.ops.port import OpsPort
from unisono.server.runtime.acceptance import Acceptance
from unisono.server.runtime.operators import Operators
from unisono.server.services.tls import ServerCertificate


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Browser:
    """Speaks HTTP with a port, one connection a request."""

    port: int
    streams: list[asyncio.StreamWriter] = field(default_factory=list)

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await self.send(self.request(path, method, **headers))

    def request(self, path: str, method: str = "GET", **headers: str) -> bytes:
        named = {"Host": f"localhost:{self.port}", "Connection": "close"}
        named |= {key.replace("_", "-"): value for key, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in named.items() if v)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def send(self, request: bytes) -> Answer:
        """Send and read to the end; who is cut off in the middle of sending has no answer: status 0."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            await writer.drain()
            return parsed(await reader.read())
        except ConnectionResetError:
            return Answer(0, {}, b"")
        finally:
            writer.close()

    async def stream(self, path: str, **headers: str) -> asyncio.StreamReader:
        """Open a stream and read past its head."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.streams.append(writer)
        writer.write(self.request(path, **headers))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        return reader

    def close(self) -> None:
        for writer in self.streams:
            writer.close()


def parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return Answer(int(first.split(" ")[1]), headers, body)


def unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        found, data = found + data[:count], data[count + 2 :]
        if not count:
            return found
    return found


async def event(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the data of the next event of a stream."""
    while True:
        line = await reader.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            found: dict[str, Any] = json.loads(line[6:])
            return found


@dataclass
class Watched:
    """A federation that is looked at."""

    federation: Federation
    port: OpsPort
    ops: Ops
    browser: Browser


@asynccontextmanager
async def watched(path: Path, settings: Mapping[str, object] | None = None) -> AsyncIterator[Watched]:
    async with serving(path) as federation:
        hall = federation.hall
        config = hall.config = hall.config.model_copy(update={"ops_port": 0} | dict(settings or {}))
        port = OpsPort(config)
        operators = Operators(hall, federation.coordinator, Acceptance(hall))
        certificate = ServerCertificate(hall.authority, config.hosts, 86_400.0, hall.clock)
        ops = Ops(hall, operators, certificate, port.token)
        answering = asyncio.create_task(port.serve(ops))
        browser = Browser(port.port)
        try:
            yield Watched(federation, port, ops, browser)
        finally:
            browser.close()
            port.close()
            await answering
