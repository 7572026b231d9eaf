"""A coordinator in this process, over real mutual TLS, and callers with certificates of their own."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from unisono import plan as plans
from unisono.base.system_clock import SystemClock
from unisono.codec import Encoder, Spec, encode_head
from unisono.crypto import SigningKey, TlsKey, encode, seal_to, sha256, system_entropy
from unisono.identity import JoinToken, request, sealing_public
from unisono.plan import Plan
from unisono.server.config import Config
from unisono.server.folder import Folder
from unisono.server.process import open_hall
from unisono.server.runtime.coordinator import Coordinator
from unisono.server.services.server import bind, build
from unisono.server.services.tls import ServerCertificate
from unisono.tensors import Entry, Manifest
from unisono.wire.v1 import admin_pb2 as admin
from unisono.wire.v1 import enrolment_pb2 as enrolment
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import transfer_pb2 as transfer
from unisono.wire.v1 import types_pb2 as types
from unisono.wire.v1.admin_pb2_grpc import AdminServiceStub
from unisono.wire.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from unisono.wire.v1.round_pb2_grpc import RoundServiceStub
from unisono.wire.v1.transfer_pb2_grpc import TransferServiceStub

if TYPE_CHECKING:
    from unisono.base.clock import Clock
    from unisono.server.runtime.hall import Hall
    from unisono.wire.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from unisono.wire.v1.enrolment_pb2_grpc import EnrolmentServiceAsyncStub
    from unisono.wire.v1.round_pb2_grpc import RoundServiceAsyncStub
    from unisono.wire.v1.transfer_pb2_grpc import TransferServiceAsyncStub

NOW = time.time()
MANIFEST = Manifest((Entry("w", (2,), "F32", travels=True),), ("loss",))
MODEL = MANIFEST.header + np.array([3.0, 4.0], "<f4").tobytes()
PLAN = Plan.model_validate(
    {"task": "x", "protection": {"mode": "sealed"}, "cohort": {"size": 2}, "rounds": {"count": 2}}
)
HELLO = rounds.HelloRequest(
    software="test",
    protocol_min=1,
    protocol_max=1,
    tasks=["x"],
    protections=["sealed"],
    strategies=["fedavg"],
)


@dataclass
class Caller:
    """Somebody with a certificate."""

    port: int
    ca: bytes
    key: TlsKey
    certificate: bytes
    name: str = ""
    sealing: bytes = b""
    signing: SigningKey | None = None
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    @property
    def channel(self) -> grpc.aio.Channel:
        if not self.channels:
            credentials = grpc.ssl_channel_credentials(self.ca, self.key.to_pem(), self.certificate)
            options = (("grpc.use_local_subchannel_pool", 1),)  # a handshake of its own
            target = f"localhost:{self.port}"
            self.channels.append(grpc.aio.secure_channel(target, credentials, options=options))
        return self.channels[0]

    async def close(self) -> None:
        while self.channels:
            await self.channels.pop().close()

    @property
    def round(self) -> RoundServiceAsyncStub:
        return RoundServiceStub(self.channel)

    @property
    def transfers(self) -> TransferServiceAsyncStub:
        return TransferServiceStub(self.channel)

    @property
    def operate(self) -> AdminServiceAsyncStub:
        return AdminServiceStub(self.channel)

    @property
    def enrol(self) -> EnrolmentServiceAsyncStub:
        return EnrolmentServiceStub(self.channel)

    # what a site does

    async def hello(self) -> rounds.HelloReply:
        reply: rounds.HelloReply = await self.round.Hello(HELLO)
        self.sealing = reply.sealing_certificate
        return reply

    async def instruction(self, *kinds: str) -> rounds.Instruction:
        """Ask until there is one of these to do."""
        cursor = 0
        async with asyncio.timeout(10):
            while True:
                found: rounds.Instruction = await self.round.NextInstruction(
                    rounds.NextInstructionRequest(cursor=cursor, wait_seconds=5)
                )
                if found.WhichOneof("what") in kinds:
                    return found
                cursor = found.cursor

    async def join(self) -> None:
        asked = (await self.instruction("consider")).consider
        joined = rounds.Joined(run=asked.run, manifest=MANIFEST.encode(), model_sha256=sha256(MODEL))
        await self.round.Submit(rounds.SubmitRequest(joined=joined))

    async def send(self, purpose: types.UploadKey.Purpose.ValueType, at: types.Attempt, data: bytes) -> bool:
        key = types.UploadKey(purpose=purpose, attempt=at, sha256=sha256(data), bytes=len(data))
        place = await self.transfers.Begin(transfer.BeginRequest(key=key))
        if place.complete:
            return True

        async def chunks() -> AsyncIterator[types.Chunk]:
            yield types.Chunk(offset=place.offset, data=data[place.offset :], key=key)

        return bool((await self.transfers.Upload(chunks())).complete)

    async def send_model(self) -> None:
        run = (await self.instruction("send_model")).send_model.run
        assert await self.send(types.UploadKey.MODEL, types.Attempt(run=run), MODEL)

    async def download(self, digest: bytes, offset: int = 0) -> bytes:
        asked = transfer.DownloadRequest(sha256=digest, offset=offset)
        return b"".join([chunk.data async for chunk in self.transfers.Download(asked)])

    async def work(self, change: Sequence[float]) -> rounds.Work:
        """Take part in one round."""
        found = (await self.instruction("work")).work
        assert sha256(await self.download(found.model_sha256)) == found.model_sha256
        assert await self.send(types.UploadKey.UPDATE, found.attempt, self.update(found, change))
        return found

    def update(self, work: rounds.Work, change: Sequence[float]) -> bytes:
        spec = Spec.decode(work.spec)
        words = np.zeros(spec.words, np.uint64)
        for part in spec.parts:
            half = np.full(2, 1 << 31, np.uint32)
            Encoder(spec, part).encode(np.array(change, np.float32), half, words[: spec.head_offset])
        head = {"one": 1.0, "weight": 1.0, "loss.sum": 2.0, "loss.count": 4.0}
        words[spec.head_offset :] = encode_head(head, spec)
        at = work.attempt
        context = encode("update", at.run, at.round, self.name, work.model_sha256.hex(), spec.digest)
        envelope, sealer = seal_to(sealing_public(self.sealing, self.ca, NOW), context, system_entropy)
        return envelope + sealer.seal(words, last=True)


@dataclass
class Federation:
    """A coordinator in this process, on a folder that outlives it."""

    path: Path
    hall: Hall
    coordinator: Coordinator
    port: int
    callers: list[Caller] = field(default_factory=list)

    def caller(self, key: TlsKey, certificate: bytes, name: str = "", ca: bytes = b"") -> Caller:
        made = Caller(self.port, ca or self.hall.authority.certificate_pem, key, certificate, name)
        self.callers.append(made)
        return made

    def operator(self) -> Caller:
        folder = self.path / "admin"
        key = TlsKey.from_pem((folder / "admin.key").read_bytes())
        return self.caller(key, (folder / "admin.pem").read_bytes())

    async def bootstrap(self, name: str) -> Caller:
        reply = await self.operator().operate.CreateToken(
            admin.CreateTokenRequest(name=name, ttl_seconds=60, uses=1)
        )
        token = JoinToken.decode(reply.token)
        return self.caller(token.key, token.certificate_pem)

    async def client(self, name: str) -> Caller:
        """Enrol a site with a token of its own."""
        bootstrap, key = await self.bootstrap(name), TlsKey.generate()
        signing = SigningKey.generate(system_entropy)
        done = await bootstrap.enrol.Enrol(
            enrolment.EnrolRequest(tls_csr=request(key), signing_csr=request(signing), software="test")
        )
        assert done.name == name
        caller = self.caller(key, done.tls_certificate, name)
        caller.signing = signing
        return caller

    async def start(self, plan: Plan = PLAN) -> str:
        reply = await self.operator().operate.StartRun(admin.StartRunRequest(plan=plans.canonical(plan)))
        return str(json.loads(reply.json)["id"])

    async def begun(self, *names: str) -> tuple[str, list[Caller]]:
        """Enrol sites and bring a run to its first round: each is asked to work."""
        sites = [await self.client(name) for name in names]
        for site in sites:
            await site.hello()
        run = await self.start()
        for site in sites:
            await site.join()
        await sites[0].send_model()
        return run, sites

    async def show(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            (await self.operator().operate.ShowRun(admin.RunRequest())).json
        )
        return found


@asynccontextmanager
async def serving(
    path: Path,
    protocols: tuple[int, int] = (1, 1),
    life: float = 86_400.0,
    clock: Clock | None = None,
    **settings: float,
) -> AsyncIterator[Federation]:
    folder = Folder.find(path)
    config = Config.load(folder.config.read_bytes()).model_copy(update={"min_free_bytes": 0, **settings})
    hall = open_hall(folder, config)
    coordinator = Coordinator(hall)
    server = build(hall, coordinator, protocols)
    certificate = ServerCertificate(hall.authority, config.hosts, life, clock or hall.clock)
    port = bind(server, certificate, "127.0.0.1", 0)
    await coordinator.open()
    await server.start()
    made = Federation(path, hall, coordinator, port)
    try:
        yield made
    finally:
        for caller in made.callers:
            await caller.close()
        await server.stop(0)
        await coordinator.close()
        hall.workers.close()
        hall.store.close()


Play = Callable[[Awaitable[None]], None]


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition` holds; the caller's time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - whoever changes it is under test, and rings for nobody
        await asyncio.sleep(0.005)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, str]:
    """Return status, code and text of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    metadata = dict(caught.value.trailing_metadata())
    return caught.value.code(), str(metadata.get("unisono-code", "")), caught.value.details() or ""


class Shifted(SystemClock):
    """Real time, later."""

    shift = 0.0

    def wall(self) -> float:
        return super().wall() + self.shift
