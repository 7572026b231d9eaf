"""The services over real mutual TLS: who may call what, what refusals look like, and a run over a restart."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

from unisono import plan as plans
from unisono.base.ids import ClientName, RunId
from unisono.base.system_clock import SystemClock
from unisono.codec import Encoder, Spec, encode_head
from unisono.crypto import SigningKey, TlsKey, encode, seal_to, sha256, system_entropy
from unisono.identity import Authority, JoinToken, peer_of, request, sealing_public
from unisono.plan import Plan
from unisono.server.config import Config
from unisono.server.folder import Folder
from unisono.server.founding import found
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
PLAN = Plan.model_validate({"task": "x", "cohort": {"size": 2}, "rounds": {"count": 2}})
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
        return self.caller(key, done.tls_certificate, name)

    async def start(self, plan: Plan = PLAN) -> str:
        reply = await self.operator().operate.StartRun(admin.StartRunRequest(plan=plans.canonical(plan)))
        return str(json.loads(reply.json)["id"])

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


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found_runner:
        yield found_runner


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("founded") / "cardio"
    found(path, ["localhost", "127.0.0.1"], 8443, "cardio", NOW)
    return path


@pytest.fixture
def path(founded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(founded, tmp_path / "cardio"))


@pytest.fixture
def play(runner: asyncio.Runner) -> Iterator[Callable[[Awaitable[None]], None]]:
    async def limited(story: Awaitable[None]) -> None:
        async with asyncio.timeout(20):
            await story

    with capture_logs():
        yield lambda story: runner.run(limited(story))


Play = Callable[[Awaitable[None]], None]


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, str]:
    """Return status, code and text of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    metadata = dict(caught.value.trailing_metadata())
    return caught.value.code(), str(metadata.get("unisono-code", "")), caught.value.details() or ""


def test_strangers_never_reach_a_service(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            ca = federation.hall.authority.certificate_pem
            other, key = Authority.create("cardio", NOW), TlsKey.generate()
            foreign = other.issue_tls(request(key), "admin", "operator", NOW, 86_400)
            code, ours, _ = await refused(federation.caller(key, foreign).operate.Health(admin.ListRequest()))
            assert (code, ours) == (grpc.StatusCode.UNAVAILABLE, "")
            bare = grpc.aio.secure_channel(f"localhost:{federation.port}", grpc.ssl_channel_credentials(ca))
            code, ours, _ = await refused(AdminServiceStub(bare).Health(admin.ListRequest()))
            await bare.close()
            assert (code, ours) == (grpc.StatusCode.UNAVAILABLE, "")

    play(story())


def test_each_certificate_opens_its_own_doors_only(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client, operator = await federation.client("a"), federation.operator()
            bootstrap = await federation.bootstrap("b")
            forbidden: list[Awaitable[object]] = [
                bootstrap.round.Hello(HELLO),
                bootstrap.operate.Health(admin.ListRequest()),
                bootstrap.transfers.Begin(transfer.BeginRequest()),
                bootstrap.enrol.Renew(enrolment.RenewRequest()),
                client.operate.Health(admin.ListRequest()),
                client.operate.Revoke(admin.RevokeRequest(name="a")),
                client.operate.CreateToken(admin.CreateTokenRequest(name="z", ttl_seconds=60)),
                client.enrol.Enrol(enrolment.EnrolRequest()),
                operator.round.Hello(HELLO),
                operator.enrol.Enrol(enrolment.EnrolRequest()),
            ]
            for call in forbidden:
                code, ours, text = await refused(call)
                assert (code, ours) == (grpc.StatusCode.PERMISSION_DENIED, "not_enrolled")
                assert "certificate may not do this" in text
            authority = federation.hall.authority
            unknown = authority.issue_tls(request(client.key), "client", "nobody", NOW, 86_400)
            found_out = await refused(federation.caller(client.key, unknown).round.Hello(HELLO))
            assert found_out[1:] == (
                "not_enrolled",
                "client 'nobody' is not enrolled in this federation",
            )

    play(story())


def test_a_token_works_once_and_is_kept_by_rubbish(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            bootstrap, key = await federation.bootstrap("a"), TlsKey.generate()
            signing, thief = (SigningKey.generate(system_entropy) for _ in range(2))
            asked = enrolment.EnrolRequest(tls_csr=request(key), signing_csr=request(signing))
            rubbish = enrolment.EnrolRequest(tls_csr=b"rubbish", signing_csr=request(signing))
            assert (await refused(bootstrap.enrol.Enrol(rubbish)))[0] in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.INVALID_ARGUMENT,
            )
            first = await bootstrap.enrol.Enrol(asked)
            again = await bootstrap.enrol.Enrol(asked)  # the reply was lost
            assert (first.name, first.number) == (again.name, again.number) == ("a", 1)
            asked.signing_csr = request(thief)
            code, ours, text = await refused(bootstrap.enrol.Enrol(asked))
            assert (code, ours) == (grpc.StatusCode.UNAUTHENTICATED, "bad_credentials")
            assert "used already" in text

    play(story())


def test_hello_comes_first(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client = await federation.client("a")
            progress = rounds.Progress(attempt=types.Attempt(run="r-0001", round=1, attempt=1))
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: client.round.NextInstruction(rounds.NextInstructionRequest()),
                lambda: client.round.Submit(rounds.SubmitRequest(progress=progress)),
                lambda: client.round.Submit(rounds.SubmitRequest(declined=rounds.Declined(run="r-0001"))),
            ]
            for call in calls:
                assert (await refused(call()))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "hello_first")
            reply = await client.hello()
            assert (reply.federation, reply.name, reply.number) == ("cardio", "a", 1)
            assert (reply.clients_online, reply.clients_enrolled) == (1, 1)
            codes = [(await refused(call()))[1] for call in calls[1:]]
            assert codes == ["wrong_phase", "not_found"]

    play(story())


def test_versions_meet_or_are_named(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, protocols=(1, 2)) as federation:
            client = await federation.client("a")

            def hello(least: int, most: int) -> rounds.HelloRequest:
                return rounds.HelloRequest(protocol_min=least, protocol_max=most)

            spoken = [await client.round.Hello(hello(*r)) for r in ((1, 1), (1, 2), (2, 3), (0, 9))]
            assert [reply.protocol for reply in spoken] == [1, 2, 2, 2]
            for theirs in ((3, 4), (0, 0), (2, 1)):
                code, ours, text = await refused(client.round.Hello(hello(*theirs)))
                assert (code, ours) == (grpc.StatusCode.FAILED_PRECONDITION, "refused")
                assert f"versions 1 to 2, the client {theirs[0]} to {theirs[1]}" in text

    play(story())


def test_rubbish_is_refused_and_harms_nobody_else(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client, other = await federation.client("a"), await federation.client("b")
            await client.hello()
            await other.hello()
            waiting = asyncio.ensure_future(
                other.round.NextInstruction(rounds.NextInstructionRequest(cursor=0, wait_seconds=5))
            )
            raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(
                "/unisono.wire.v1.RoundService/Submit"
            )
            no_message = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)  # gRPC's own answer
            assert (await refused(raw(b"\xff" * 100)))[0] in no_message
            stream: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = client.channel.stream_unary(
                "/unisono.wire.v1.TransferService/Upload"
            )
            assert (await refused(stream(iter([b"\xff\xff"]))))[0] in no_message
            empty = await refused(client.round.Submit(rounds.SubmitRequest()))
            assert empty[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "bad_message")
            unknown = await refused(raw(b"\x32\x00"))  # a leg of a later version
            assert unknown[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "bad_message")
            big = rounds.SubmitRequest(joined=rounds.Joined(run="r-0001", manifest=bytes(5 << 20)))
            assert (await refused(client.round.Submit(big)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
            headless = await refused(client.transfers.Upload(iter([types.Chunk(data=b"x")])))
            assert headless[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "bad_message")
            short = transfer.DownloadRequest(sha256=b"123")
            with pytest.raises(grpc.aio.AioRpcError, match="SHA-256 of 3 bytes"):
                _ = [chunk async for chunk in client.transfers.Download(short)]
            assert (await waiting).WhichOneof("what") == "idle"
            assert (await client.instruction("idle")).cursor

    play(story())


@pytest.mark.parametrize("wait", [float("nan"), float("inf"), -1.0, 0.0])
def test_odd_waits_are_bounded(path: Path, play: Play, wait: float) -> None:
    async def story() -> None:
        async with serving(path, long_poll_seconds=0.04) as federation:
            client = await federation.client("a")
            await client.hello()
            first = await client.instruction("idle")
            asked = rounds.NextInstructionRequest(cursor=first.cursor, wait_seconds=wait)
            assert (await client.round.NextInstruction(asked)).cursor == first.cursor

    play(story())


def test_what_a_peer_says_cannot_drive_a_terminal(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            client = await federation.client("a")
            await client.hello()
            await federation.start()
            run = (await client.instruction("consider")).consider.run
            said = rounds.Declined(run=run, code="outside_policy", reason="no\x1b[2J\x07 " + "x" * 900)
            await client.round.Submit(rounds.SubmitRequest(declined=said))
            ((_, reason),) = federation.hall.runs[RunId(run)].run.declined
            assert reason == "no?[2J? " + "x" * 392
            bad = rounds.HelloRequest(protocol_min=1, protocol_max=1, tasks=["x\x1b"])
            assert (await refused(client.round.Hello(bad)))[1] == "bad_message"

    play(story())


def test_a_run_goes_on_in_a_new_process_on_the_same_folder(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = [await federation.client(name) for name in ("a", "b")]
            for site in sites:
                await site.hello()
            run = await federation.start()
            for site in sites:
                await site.join()
            await sites[0].send_model()
            first = await sites[0].work([1.0, 0.0])  # b's is missing when the coordinator goes
            work = (await sites[1].instruction("work")).work
            keys = [(site.key, site.certificate, site.name) for site in sites]
        async with serving(path) as federation:
            sites = [federation.caller(*key) for key in keys]
            code = (await refused(sites[1].round.NextInstruction(rounds.NextInstructionRequest())))[1]
            assert code == "hello_first"
            for site in sites:
                await site.hello()
            again = (await sites[1].instruction("work")).work
            assert again == work
            key = types.UploadKey(
                purpose=types.UploadKey.UPDATE, attempt=first.attempt, sha256=bytes(32), bytes=1
            )
            repeated = await refused(sites[0].transfers.Begin(transfer.BeginRequest(key=key)))
            assert repeated[1] == "wrong_phase"  # a's counts already
            await sites[1].work([0.0, 1.0])
            last = [await site.work(change) for site, change in zip(sites, ([1, 0], [0, 1]), strict=True)]
            model = await sites[0].download(last[0].model_sha256)
            assert np.allclose(np.frombuffer(model[-8:], "<f4"), [3.5, 4.5], atol=1e-6)
            closing = [await site.work([]) for site in sites]
            assert {work.kind for work in closing} == {rounds.Work.EVALUATE}
            async for found in federation.operator().operate.WatchRun(admin.RunRequest(run=run)):
                document = json.loads(found.json)
            assert (document["state"], len(document["rounds"])) == ("finished", 2)
            assert document["rounds"][0]["metrics"] == {"loss": 0.5}
            outcome = (await sites[0].instruction("idle")).last
            assert (outcome.state, outcome.counted, outcome.survivors) == ("finished", True, 2)
            assert list((path / "coordinator" / "spool" / run).iterdir()) == []

    play(story())


def test_revocation_ends_calls_and_streams_that_are_open(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = [await federation.client(name) for name in ("a", "b")]
            for site in sites:
                await site.hello()
            await federation.start()
            for site in sites:
                await site.join()
            await sites[0].send_model()
            work = (await sites[1].instruction("work")).work
            data = sites[1].update(work, [0.0, 0.0])
            key = types.UploadKey(
                purpose=types.UploadKey.UPDATE, attempt=work.attempt, sha256=sha256(data), bytes=len(data)
            )
            go_on = asyncio.Event()

            async def chunks() -> AsyncIterator[types.Chunk]:
                yield types.Chunk(data=data[:50], key=key)
                await go_on.wait()
                yield types.Chunk(offset=50, data=data[50:])

            upload = asyncio.ensure_future(sites[1].transfers.Upload(chunks()))
            seen = await sites[1].instruction("work")
            asked = rounds.NextInstructionRequest(cursor=seen.cursor, wait_seconds=20)
            waiting = asyncio.ensure_future(sites[1].round.NextInstruction(asked))
            await asyncio.sleep(0.02)
            began = time.monotonic()
            revoke = admin.RevokeRequest(name="b", reason="laptop lost")
            await federation.operator().operate.Revoke(revoke)
            assert (await refused(waiting))[1] in ("not_enrolled", "hello_first")
            assert time.monotonic() - began < 5
            go_on.set()
            code, ours, text = await refused(upload)
            assert (code, ours) == (grpc.StatusCode.PERMISSION_DENIED, "not_enrolled")
            assert "laptop lost" in text
            assert (await refused(sites[1].hello()))[1] == "not_enrolled"
            assert federation.hall.presence.get(ClientName("b")) is None
            assert "b" in json.dumps((await federation.show())["status"])

    play(story())


def test_operators_bring_a_model_and_renew(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            operator = federation.operator()
            assert await operator.send(types.UploadKey.MODEL, types.Attempt(), MODEL)
            plan = PLAN.model_copy(update={"model": PLAN.model.model_copy(update={"init": "m.safetensors"})})
            asked = admin.StartRunRequest(plan=plans.canonical(plan), model_sha256=sha256(MODEL))
            run = json.loads((await operator.operate.StartRun(asked)).json)["id"]
            assert await operator.download(sha256(MODEL), 5) == MODEL[5:]
            missing = admin.StartRunRequest(plan=plans.canonical(plan))
            assert (await refused(operator.operate.StartRun(missing)))[:2] == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "bad_configuration",
            )
            stopped = json.loads((await operator.operate.StopRun(admin.RunRequest(run=run))).json)
            assert stopped["state"] == "stopped"
            key = TlsKey.generate()
            reply = await operator.enrol.Renew(enrolment.RenewRequest(tls_csr=request(key)))
            renewed = federation.caller(key, reply.tls_certificate)
            assert json.loads((await renewed.operate.Health(admin.ListRequest())).json)["status"] == "ok"
            assert peer_of(reply.tls_certificate).kind == "admin"

    play(story())


def test_certificates_are_renewed_on_both_sides(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path, client_certificate_life=3600.0) as federation:
            client = await federation.client("a")
            await client.hello()
            seen = await client.instruction("idle")
            assert not seen.renew
            clock = Shifted()
            federation.hall.clock = clock
            clock.shift = 2500.0
            asked = rounds.NextInstructionRequest(cursor=seen.cursor, wait_seconds=20)
            assert (await client.round.NextInstruction(asked)).renew
            key = TlsKey.generate()
            reply = await client.enrol.Renew(enrolment.RenewRequest(tls_csr=request(key)))
            assert peer_of(reply.tls_certificate).not_after > NOW + 3600 + 2400
            renewed = federation.caller(key, reply.tls_certificate, "a")
            await renewed.hello()
            assert not (await renewed.instruction("idle")).renew

    play(story())


class Shifted(SystemClock):
    """Real time, later."""

    shift = 0.0

    def wall(self) -> float:
        return super().wall() + self.shift


def test_the_next_handshake_sees_the_servers_new_certificate(path: Path, play: Play) -> None:
    async def story() -> None:
        clock = Shifted()
        clock.shift = -100.0
        async with serving(path, life=90.0, clock=clock) as federation:
            expired = await refused(federation.operator().operate.Health(admin.ListRequest()))
            assert expired[0] is grpc.StatusCode.UNAVAILABLE  # its certificate ended 10 s ago
            clock.shift = 0.0
            health = await federation.operator().operate.Health(admin.ListRequest())
            assert json.loads(health.json)["federation"] == "cardio"

    play(story())
