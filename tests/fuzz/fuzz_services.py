"""Every message of the wire contract, through the coordinator's own services, guard and runs; no network.

The services are those of `build`: only gRPC's server is replaced, by one that keeps their handlers.  A call
may be refused; INTERNAL or UNKNOWN would be a finding, and so would anything that a handler raises.
"""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
import structlog
from federation_world import HELLO, MANIFEST, MODEL, PLAN
from fuzz_target import Target, same
from google.protobuf.message import DecodeError, Message
from test_runtime_uploads import DATA, UPDATE, Desk, Site

from unisono import plan as plans
from unisono.base.errors import Error
from unisono.crypto import SigningKey, TlsKey, sha256, system_entropy
from unisono.identity import JoinToken, request
from unisono.server.config import Config
from unisono.server.folder import Folder
from unisono.server.founding import found
from unisono.server.process import open_hall
from unisono.server.runtime.coordinator import Coordinator
from unisono.server.runtime.workers import Workers
from unisono.server.services.server import build
from unisono.wire.v1 import admin_pb2, enrolment_pb2, round_pb2, transfer_pb2, types_pb2

if TYPE_CHECKING:
    from unisono.server.runtime.hall import Hall

SERVICES = {
    "RoundService": round_pb2,
    "AdminService": admin_pb2,
    "EnrolmentService": enrolment_pb2,
    "TransferService": transfer_pb2,
}
METHODS = tuple(
    f"/unisono.wire.v1.{service}/{method.name}"
    for service, module in SERVICES.items()
    for method in module.DESCRIPTOR.services_by_name[service].methods
)
# A disk in memory, because each input syncs; `fuzz_run` names one of its own, and removes it.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) and "TMPDIR" not in os.environ else None  # noqa: S108
BROKEN = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
LIVES = 1000  # calls to one coordinator: some make runs and tokens, which stay
AT = types_pb2.Attempt(run="r-0001", round=1, attempt=1)
SAID = round_pb2.Said(attempt=AT, message=b"x")


class Refused(Exception):
    """What `abort` raises."""


@dataclass
class Context:
    """One call, as a handler sees it."""

    certificate: bytes
    status: grpc.StatusCode | None = None
    text: str = ""

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return {"x509_pem_cert": [self.certificate]} if self.certificate else {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def abort(self, status: grpc.StatusCode, text: str, metadata: object = ()) -> None:
        self.status, self.text = status, text
        raise Refused(text)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None  # metadata, callbacks: nothing that a fuzzed answer depends on


class Handlers:
    """Stands where gRPC's server does."""

    def __init__(self, *_: object, **__: object) -> None:
        self.known: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        self.known.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """The same handlers once more, in newer versions of gRPC."""

    def of(self, method: str) -> Any:
        details: Any = mock.Mock(method=method)
        return next(h for h in (known.service(details) for known in self.known) if h is not None)


@dataclass
class World:
    """A coordinator in the middle of a round: two clients in it, one more enrolled."""

    folder: Path
    hall: Hall
    coordinator: Coordinator
    handlers: Handlers
    people: list[bytes] = field(default_factory=list)  # certificates
    calls: int = 0

    @classmethod
    async def at(cls, founded: Path) -> World:
        folder = Path(tempfile.mkdtemp(prefix="unisono-fuzz-", dir=FAST))
        shutil.copytree(founded, folder, dirs_exist_ok=True)
        place = Folder.find(folder)
        config = Config.load(place.config.read_bytes()).model_copy(
            update={"min_free_bytes": 0, "long_poll_seconds": 0.001}
        )
        hall = open_hall(place, config)
        coordinator = Coordinator(hall)
        with mock.patch("grpc.aio.server", Handlers):
            handlers = build(hall, coordinator)
        assert isinstance(handlers, Handlers)
        await coordinator.open()
        world = cls(folder, hall, coordinator, handlers)
        await world._begin()
        return world

    async def close(self) -> None:
        await self.coordinator.close()
        self.hall.workers.close()
        self.hall.store.close()
        shutil.rmtree(self.folder)

    async def call(self, method: str, messages: list[bytes], certificate: bytes) -> tuple[list[Any], Context]:
        """Make a call as gRPC would; return the replies and how it ended."""
        handler, context = self.handlers.of(method), Context(certificate)
        decoded = [handler.request_deserializer(data) for data in messages]
        try:
            async with asyncio.timeout(5):
                return await _replies(handler, decoded, context), context
        except Refused:
            return [], context

    async def must(self, method: str, message: Message, certificate: bytes) -> Any:
        replies, context = await self.call(method, [message.SerializeToString()], certificate)
        assert context.status is None, context
        return replies[0]

    async def _begin(self) -> None:
        operator = (self.folder / "admin" / "admin.pem").read_bytes()
        for name in ("a", "b", "c"):
            self.people.append(await self._enrolled(name, operator))
        self.people.append(operator)
        await self.must(
            METHODS_BY["StartRun"], admin_pb2.StartRunRequest(plan=plans.canonical(PLAN)), operator
        )
        for certificate in self.people[:2]:
            await self.must(METHODS_BY["Hello"], HELLO, certificate)
            joined = round_pb2.Joined(run="r-0001", manifest=MANIFEST.encode(), model_sha256=sha256(MODEL))
            await self.must(METHODS_BY["Submit"], round_pb2.SubmitRequest(joined=joined), certificate)
        for certificate in self.people[:2]:
            key = types_pb2.UploadKey(
                purpose=types_pb2.UploadKey.MODEL, attempt=types_pb2.Attempt(run="r-0001"),
                sha256=sha256(MODEL), bytes=len(MODEL),
            )  # fmt: skip
            chunk = types_pb2.Chunk(offset=0, data=MODEL, key=key).SerializeToString()
            await self.call(METHODS_BY["Upload"], [chunk], certificate)

    async def _enrolled(self, name: str, operator: bytes) -> bytes:
        token = admin_pb2.CreateTokenRequest(name=name, ttl_seconds=3600, uses=1)
        text = (await self.must(METHODS_BY["CreateToken"], token, operator)).token
        asked = enrolment_pb2.EnrolRequest(
            tls_csr=request(TlsKey.generate()), signing_csr=request(SigningKey.generate(system_entropy))
        )
        bootstrap = JoinToken.decode(text).certificate_pem
        return bytes((await self.must(METHODS_BY["Enrol"], asked, bootstrap)).tls_certificate)


METHODS_BY = {method.rpartition("/")[2]: method for method in METHODS}


async def _replies(handler: Any, messages: list[Any], context: Context) -> list[Any]:
    async def sent() -> AsyncIterator[Any]:
        for message in messages:
            yield message

    if not handler.response_streaming:
        return [await handler.stream_unary(sent(), context)]
    replies = []
    async with aclosing(handler.stream_stream(sent(), context)) as stream:
        async for reply in stream:
            replies.append(reply)
            break
    return replies


class Loop:
    """One event loop, and the coordinator that is on it now."""

    def __init__(self) -> None:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[])
        self.runner = asyncio.Runner()
        self._folder = Path(tempfile.mkdtemp(prefix="unisono-founded-", dir=FAST))
        self.founded = self._folder / "cardio"
        atexit.register(self.end)
        found(self.founded, ["localhost"], 8443, "cardio", _now())
        self.world: World | None = None

    def fresh(self) -> World:
        if self.world is None or self.world.calls >= LIVES:
            self.close()
            self.world = self.runner.run(World.at(self.founded))
        return self.world

    def close(self) -> None:
        if self.world is not None:
            self.runner.run(self.world.close())
            self.world = None

    def end(self) -> None:
        """Leave nothing behind."""
        self.close()
        self.runner.close()
        shutil.rmtree(self._folder)


def _now() -> float:
    from unisono.base.system_clock import SystemClock  # noqa: PLC0415 - only here

    return SystemClock().wall()


@cache
def loop() -> Loop:
    return Loop()


def _pieces(data: bytes) -> list[bytes]:
    """Cut data into messages, each after two bytes of length."""
    found = []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        found.append(data[2:end])
        data = data[end:]
    return found or [b""]


def _call(data: bytes) -> None:
    """First byte: the method; second: who calls; then the message, or messages."""
    method, who, body = METHODS[(data[0] if data else 0) % len(METHODS)], data[1:2], data[2:]
    world = loop().fresh()
    world.calls += 1
    certificate = (*world.people, b"")[(who[0] if who else 0) % (len(world.people) + 1)]
    messages = _pieces(body) if method == METHODS_BY["Upload"] else [body]
    try:
        _, context = loop().runner.run(world.call(method, messages, certificate))
    except DecodeError:
        return
    assert context.status not in BROKEN, f"{method}: {context.status} {context.text}"
    assert all(c.isprintable() or c == "\n" for c in context.text), context.text


def _call_seeds() -> Iterator[bytes]:
    key = types_pb2.UploadKey(purpose=types_pb2.UploadKey.UPDATE, attempt=AT, sha256=bytes(32), bytes=1000)
    csr = request(TlsKey.generate())
    submits = (
        round_pb2.SubmitRequest(
            joined=round_pb2.Joined(run="r-0001", manifest=MANIFEST.encode(), model_sha256=bytes(32))
        ),
        round_pb2.SubmitRequest(declined=round_pb2.Declined(run="r-0001", code="policy", reason="no")),
        round_pb2.SubmitRequest(looking=round_pb2.Looking(run="r-0001")),
        round_pb2.SubmitRequest(
            progress=round_pb2.Progress(attempt=AT, stage=round_pb2.Progress.TRAINING, done=1, total=9)
        ),
        round_pb2.SubmitRequest(
            task_failed=round_pb2.TaskFailed(attempt=AT, code="oom", text="out of memory")
        ),
        round_pb2.SubmitRequest(said=SAID),
        round_pb2.SubmitRequest(leaving=round_pb2.Leaving()),
    )
    made: list[tuple[str, int, Message]] = [
        ("Hello", 0, HELLO),
        ("NextInstruction", 0, round_pb2.NextInstructionRequest(cursor=1, wait_seconds=0.01)),
        (
            "NextInstruction",
            0,
            round_pb2.NextInstructionRequest(
                wait_seconds=0.01, said=round_pb2.Said(attempt=AT, message=b"x")
            ),
        ),
        *(("Submit", 0, message) for message in submits),
        ("Begin", 0, transfer_pb2.BeginRequest(key=key)),
        ("Download", 0, transfer_pb2.DownloadRequest(sha256=sha256(MODEL), offset=3)),
        ("Renew", 2, enrolment_pb2.RenewRequest(tls_csr=csr)),
        ("Enrol", 2, enrolment_pb2.EnrolRequest(tls_csr=csr, signing_csr=csr, only_asking=True)),
        ("StartRun", 3, admin_pb2.StartRunRequest(plan=plans.canonical(PLAN), from_run="r-0001")),
        ("ShowRun", 3, admin_pb2.RunRequest(run="r-0001", first_round=1, last_round=9)),
        ("WatchRun", 3, admin_pb2.RunRequest(run="r-0002")),
        ("StopRun", 3, admin_pb2.RunRequest(run="r-0002")),
        ("CreateToken", 3, admin_pb2.CreateTokenRequest(name="d", ttl_seconds=10, uses=2)),
        ("Revoke", 3, admin_pb2.RevokeRequest(name="z", reason="lost")),
        ("RevokeOperator", 3, admin_pb2.RevokeOperatorRequest(name="z", reason="lost")),
        ("CheckPlan", 3, admin_pb2.CheckPlanRequest(plan=plans.canonical(PLAN))),
        ("ListModels", 0, admin_pb2.RunRequest(run="r-0001")),
        ("Health", 3, admin_pb2.ListRequest()),
    ]
    for name, who, message in made:
        yield bytes((METHODS.index(METHODS_BY[name]), who)) + message.SerializeToString()
    chunk = types_pb2.Chunk(offset=0, data=b"0123456789", key=key).SerializeToString()
    more = types_pb2.Chunk(offset=10, data=b"abc").SerializeToString()
    upload = b"".join(len(part).to_bytes(2, "big") + part for part in (chunk, more))
    yield bytes((METHODS.index(METHODS_BY["Upload"]), 0)) + upload


def _sequence(data: bytes) -> None:
    """A stream's chunks in any order, of any place and length, over connections that break.

    Each step is three bytes: what (a chunk, or a break when 0), the place / 64, the length / 64.  Whatever
    comes, the coordinator then tells where to go on, and from there the upload becomes whole.
    """
    steps = [data[i : i + 3] for i in range(0, min(len(data), 192) - 2, 3)]
    loop().runner.run(_uploaded(steps))


async def _uploaded(steps: list[bytes]) -> None:
    folder, workers = Path(tempfile.mkdtemp(prefix="unisono-upload-", dir=FAST)), Workers(2)
    try:
        site = Site.at(folder, workers)
        stream: list[tuple[int, bytes]] = []
        for what, place, length in steps:
            start = place * 64
            stream.append((start, DATA[start : start + length * 64] if what & 1 else bytes(length)))
            if not what:
                stream = await _broken(site, stream)
        await _broken(site, stream)
        assert isinstance(site.desk, Desk)
        progress = await site.begin()
        assert 0 <= progress.offset <= len(DATA)
        if not progress.complete:
            progress = await _completed(site, progress.offset)
        same((progress.complete, progress.offset), (True, len(DATA)))
    finally:
        workers.close()
        shutil.rmtree(folder)


async def _broken(site: Site, stream: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Send a stream that may be refused; nothing of it is left over for the next one."""
    try:
        await site.send(stream)
    except Error:
        await site.begin()
    return []


async def _completed(site: Site, offset: int) -> Any:
    try:
        return await site.send([(offset, DATA[offset:])], UPDATE)
    except Error:  # what lay there was not the file: it begins anew, once
        again = await site.begin()
        assert again.offset == 0
        return await site.send([(0, DATA)], UPDATE)


TARGETS = (
    Target("service", _call, _call_seeds, (), 2048),
    Target(
        "chunk_sequence", _sequence, lambda: (b"\1\0\40\1\40\40", b"\1\0\10\0\0\0\1\10\377", b""), (), 192
    ),
)
