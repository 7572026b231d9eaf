"""The services over real mutual TLS: who may call what, and until when."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest
from federation_world import HELLO, NOW, Play, Shifted, refused, serving, until

from unisono.base.ids import ClientName
from unisono.crypto import SigningKey, TlsKey, sha256, system_entropy
from unisono.identity import Authority, peer_of, request
from unisono.server.founding import found
from unisono.wire.v1 import admin_pb2 as admin
from unisono.wire.v1 import enrolment_pb2 as enrolment
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import transfer_pb2 as transfer
from unisono.wire.v1 import types_pb2 as types
from unisono.wire.v1.admin_pb2_grpc import AdminServiceStub


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


def test_revocation_ends_calls_and_streams_that_are_open(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            _, sites = await federation.begun("a", "b")
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
            await until(lambda: "b" in federation.hall.bells._rung and any(path.rglob("*.part")))
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


def test_an_open_connection_ends_with_its_certificate(path: Path, play: Play) -> None:
    """The handshake was when it was valid; the connection would live on for an hour."""

    async def story() -> None:
        clock = Shifted()
        async with serving(path, client_certificate_life=3600.0, clock=clock) as federation:
            federation.hall.clock = clock
            client, operator = await federation.client("a"), federation.operator()
            bootstrap = await federation.bootstrap("b")
            await client.hello()
            seen = await client.instruction("idle")
            asked = rounds.NextInstructionRequest(cursor=seen.cursor, wait_seconds=20)
            assert await operator.operate.Health(admin.ListRequest())
            tried = await refused(bootstrap.enrol.Enrol(enrolment.EnrolRequest()))  # connected, in time
            assert "expired" not in tried[2]
            waiting = asyncio.ensure_future(client.round.NextInstruction(asked))
            await until(lambda: "a" in federation.hall.bells._rung)
            clock.shift = 3605.0
            run = await federation.start()  # there is something to tell
            code, ours, text = await refused(waiting)  # in the middle of a call
            assert (code, ours) == (grpc.StatusCode.FAILED_PRECONDITION, "hello_first")
            assert "the certificate of a expired on" in text
            assert (await refused(client.round.NextInstruction(asked)))[1] == "hello_first"
            key = enrolment.RenewRequest(tls_csr=request(TlsKey.generate()))
            assert (await refused(client.enrol.Renew(key)))[1] == "hello_first"
            code, ours, text = await refused(bootstrap.enrol.Enrol(enrolment.EnrolRequest()))
            assert (code, ours) == (grpc.StatusCode.UNAUTHENTICATED, "bad_credentials")
            assert "the certificate of b expired on" in text
            assert await operator.operate.Health(admin.ListRequest())
            watching = operator.operate.WatchRun(admin.RunRequest(run=run))
            assert await anext(aiter(watching))
            clock.shift = 91 * 86_400.0
            with pytest.raises(grpc.aio.AioRpcError, match="the certificate of operator expired on"):
                _ = [document async for document in watching]
            assert (await refused(operator.operate.Health(admin.ListRequest())))[1] == "bad_credentials"

    play(story())


def test_a_revoked_operator_is_out_in_the_middle_of_its_calls(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            operator, authority = federation.operator(), federation.hall.authority
            key = TlsKey.generate()
            unwritten = federation.caller(key, authority.issue_tls(request(key), "admin", "ann", NOW, 86_400))
            assert (await refused(unwritten.operate.Health(admin.ListRequest())))[1] == "not_enrolled"
            stolen = authority.issue_tls(request(key), "admin", "ann", NOW, 86_400)
            federation.hall.ledger.issued(peer_of(stolen), NOW)
            thief = federation.caller(key, stolen)
            watching = thief.operate.WatchRun(admin.RunRequest(run=await federation.start()))
            assert await anext(aiter(watching))
            await thief.operate.CreateToken(admin.CreateTokenRequest(name="z", ttl_seconds=60, uses=3))
            lone = admin.RevokeOperatorRequest(name="ann", reason="folder\x1b stolen")
            client = await federation.client("a")
            assert "kind admin" in (await refused(client.operate.RevokeOperator(lone)))[2]
            told = json.loads((await operator.operate.RevokeOperator(lone)).json)
            assert told == {"operator": "ann", "revoked": True, "certificates": 1, "tokens": 1}
            with pytest.raises(grpc.aio.AioRpcError, match="certificate of operator 'ann' was revoked"):
                _ = [document async for document in watching]
            renewal = enrolment.RenewRequest(tls_csr=request(TlsKey.generate()))
            for call in (thief.operate.Health(admin.ListRequest()), thief.enrol.Renew(renewal)):
                code, ours, _ = await refused(call)
                assert (code, ours) == (grpc.StatusCode.PERMISSION_DENIED, "not_enrolled")
            assert json.loads((await operator.operate.ListTokens(admin.ListRequest())).json) == {"tokens": []}
            last = admin.RevokeOperatorRequest(name="operator")
            code, ours, text = await refused(operator.operate.RevokeOperator(last))
            assert (code, ours) == (grpc.StatusCode.FAILED_PRECONDITION, "refused")
            assert "nobody could operate this federation" in text
            last.force = True
            assert json.loads((await operator.operate.RevokeOperator(last)).json)["revoked"] is True
            assert (await refused(operator.operate.Health(admin.ListRequest())))[1] == "not_enrolled"
        shutil.rmtree(path / "admin")
        found(path, ["localhost"], 8443, "cardio", NOW)  # what the message advises
        async with serving(path) as federation:
            assert await federation.operator().operate.Health(admin.ListRequest())

    play(story())
