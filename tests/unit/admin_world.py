"""An operator's desk, and a coordinator over real mutual TLS whose state is a few dictionaries."""

# ruff: noqa: N802 - the methods of a service are named as in its proto
from __future__ import annotations  # the classes of grpc are generic in its stubs only

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from unisono import tensors
from unisono.cli import main
from unisono.crypto import TlsKey, sha256_hex
from unisono.identity import Authority, peer_of, request
from unisono.wire.v1 import admin_pb2, enrolment_pb2, transfer_pb2, types_pb2
from unisono.wire.v1.admin_pb2_grpc import AdminServiceServicer
from unisono.wire.v1.enrolment_pb2_grpc import (
    EnrolmentServiceServicer,
)
from unisono.wire.v1.transfer_pb2_grpc import TransferServiceServicer

if TYPE_CHECKING:
    import pytest

NOW = time.time()
DAY = 86_400.0
LINE = "uni1.secret.0123"
CA = Authority.create("cardio", NOW - 100 * DAY)
MODEL = tensors.write({"weight": np.arange(400_000, dtype=np.float32)})
PAGE = 10  # rounds of a long run that one answer holds
PLAN = 'task = "readmission"\n[rounds]\ncount = 3\n[protection]\nmode = "sealed"\n'


def round_of(number: int) -> dict[str, object]:
    return {
        "round": number, "attempts": 1, "cohort": ["hospital-a", "hospital-b"], "survivors": ["hospital-a"],
        "seconds": 0.25, "metrics": {"loss": 0.5, "accuracy": 0.9}, "bytes_in": 10, "bytes_out": 20,
        "model_sha256": sha256_hex(MODEL),
    }  # fmt: skip


@dataclass
class State:
    """What the coordinator has been told and what it answers."""

    started: list[admin_pb2.StartRunRequest] = field(default_factory=list)
    tokens: list[admin_pb2.CreateTokenRequest] = field(default_factory=list)
    revoked: dict[str, str] = field(default_factory=dict)
    uploaded: bytearray = field(default_factory=bytearray)
    renewals: int = 0
    health: str = "ok"
    run_state: str = "finished"
    reason: str | None = None
    served: bytes = MODEL
    cut: int = 0  # break a download after so many chunks, once
    offsets: list[int] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    long: int = 0  # rounds of a run that is sent in pages
    pages: list[tuple[int, int]] = field(default_factory=list)

    def run(self, state: str = "") -> dict[str, object]:
        status = {"stage": "in_round", "phase": "collecting", "round": 2, "rounds": 3, "sentence": "waits"}
        return {
            "id": "r-0007", "state": state or self.run_state, "protection": "sealed", "privacy": {},
            "reason": self.reason, "plan_sha256": "ab" * 32,
            "rounds": [round_of(1), round_of(2)], "model_sha256": sha256_hex(MODEL), "task": "readmission",
            "started": NOW, "status": status,
            **({"rounds_published": self.long, "rounds_seconds": 0.25 * self.long} if self.long else {}),
        }  # fmt: skip


def document(content: object) -> admin_pb2.Document:
    return admin_pb2.Document(json=json.dumps(content).encode())


def refuse(context: grpc.ServicerContext, status: grpc.StatusCode, code: str, text: str) -> None:
    context.set_trailing_metadata((("unisono-code", code),))
    context.abort(status, text)


class Admin(AdminServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def StartRun(
        self, request: admin_pb2.StartRunRequest, context: grpc.ServicerContext
    ) -> admin_pb2.Document:
        del context
        self.state.started.append(request)
        return document({"id": "r-0007"})

    def StopRun(self, request: admin_pb2.RunRequest, context: grpc.ServicerContext) -> admin_pb2.Document:
        del context
        return document({**self.state.run("stopped"), "id": request.run})

    def ShowRun(self, request: admin_pb2.RunRequest, context: grpc.ServicerContext) -> admin_pb2.Document:
        if peer_of(bytes(context.auth_context()["x509_pem_cert"][0])).kind != "admin":
            refuse(
                context, grpc.StatusCode.PERMISSION_DENIED, "not_enrolled", "only operators may ask for runs"
            )
        if request.run not in ("", "r-0007"):
            refuse(context, grpc.StatusCode.NOT_FOUND, "not_found", f"there is no run {request.run}")
        asked = request.first_round, request.last_round
        if not self.state.long or asked == (0, 0):
            return document(self.state.run())
        self.state.pages.append(asked)
        last = min(request.last_round or self.state.long, self.state.long)
        rounds = [round_of(n) for n in range(asked[0], last + 1)][:PAGE]
        return document({**self.state.run(), "rounds": rounds})

    def WatchRun(
        self, request: admin_pb2.RunRequest, context: grpc.ServicerContext
    ) -> Iterator[admin_pb2.Document]:
        del request, context
        event = {"wall": NOW, "event": "uploaded", "client": "hospital-a", "round": 2, "seq": 1}
        yield document({**self.state.run("running"), "events": [event]})
        yield document({**self.state.run(), "events": []})

    def ListRuns(self, request: admin_pb2.ListRequest, context: grpc.ServicerContext) -> admin_pb2.Document:
        del request, context
        run = {"id": "r-0007", "state": "running", "task": "readmission", "round": 2, "rounds": 3}
        return document({"runs": [run]})

    def ListModels(self, request: admin_pb2.RunRequest, context: grpc.ServicerContext) -> admin_pb2.Document:
        del request
        self.state.peers.append(peer_of(bytes(context.auth_context()["x509_pem_cert"][0])).kind)
        models = [
            {"round": 1, "sha256": "00" * 32, "bytes": 1, "best": True, "metrics": {"loss": 0.4}},
            {"round": 2, "sha256": sha256_hex(MODEL), "bytes": len(MODEL), "best": False, "last": True,
             "metrics": {"loss": 0.5, "accuracy": 0.9}},
        ]  # fmt: skip
        about = {"clients": 2, "plan_sha256": "ab" * 32, "task": "readmission"}
        return document({"run": "r-0007", "models": models, **about})

    def ListClients(
        self, request: admin_pb2.ListRequest, context: grpc.ServicerContext
    ) -> admin_pb2.Document:
        del request, context
        return document({"clients": [
            {"name": "hospital-a", "number": 1, "state": "online", "last_seen": NOW, "not_after": NOW,
             "tasks": ["readmission"], "software": "0.1.0"},
            {"name": "hospital-b", "number": 2, "state": "offline", "last_seen": None, "tasks": []},
        ]})  # fmt: skip

    def ListTokens(self, request: admin_pb2.ListRequest, context: grpc.ServicerContext) -> admin_pb2.Document:
        del request, context
        return document({"tokens": []})

    def CreateToken(
        self, request: admin_pb2.CreateTokenRequest, context: grpc.ServicerContext
    ) -> admin_pb2.CreateTokenReply:
        del context
        self.state.tokens.append(request)
        return admin_pb2.CreateTokenReply(token=LINE, not_after=NOW + request.ttl_seconds)

    def Revoke(self, request: admin_pb2.RevokeRequest, context: grpc.ServicerContext) -> admin_pb2.Document:
        if request.name != "hospital-a":
            refuse(context, grpc.StatusCode.NOT_FOUND, "not_found", f'nobody is called "{request.name}"')
        self.state.revoked[request.name] = request.reason
        return document({"name": request.name, "revoked": True})

    def RevokeOperator(
        self, request: admin_pb2.RevokeOperatorRequest, context: grpc.ServicerContext
    ) -> admin_pb2.Document:
        if not request.force:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "refused", "the last one")
        self.state.revoked[f"operator {request.name}"] = request.reason
        return document({"operator": request.name, "revoked": True, "certificates": 2, "tokens": 1})

    def CheckPlan(
        self, request: admin_pb2.CheckPlanRequest, context: grpc.ServicerContext
    ) -> admin_pb2.Document:
        del request, context
        clients = [
            {"name": "hospital-a", "accepts": True, "reason": ""},
            {"name": "hospital-b", "accepts": False, "reason": "offers no task 'readmission', only x"},
        ]
        return document({"clients": clients, "model_bytes": 25_000_000, "coordinates": 6_250_000})

    def Health(self, request: admin_pb2.ListRequest, context: grpc.ServicerContext) -> admin_pb2.Document:
        del request, context
        problems = [] if self.state.health == "ok" else ["the disk is nearly full"]
        how = {"status": self.state.health, "problems": problems}
        return document({**how, "federation": "cardio", "software": "0.1.0"})


class Transfer(TransferServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def Begin(
        self, request: transfer_pb2.BeginRequest, context: grpc.ServicerContext
    ) -> transfer_pb2.BeginReply:
        del context
        got = self.state.uploaded
        return transfer_pb2.BeginReply(offset=len(got), complete=len(got) == request.key.bytes)

    def Upload(
        self, request_iterator: Iterator[types_pb2.Chunk], context: grpc.ServicerContext
    ) -> transfer_pb2.UploadReply:
        del context
        key = types_pb2.UploadKey()
        for chunk in request_iterator:
            key = chunk.key if chunk.HasField("key") else key
            assert chunk.offset == len(self.state.uploaded)
            self.state.uploaded += chunk.data
        whole = bytes.fromhex(sha256_hex(self.state.uploaded)) == key.sha256
        return transfer_pb2.UploadReply(offset=len(self.state.uploaded), complete=whole)

    def Download(
        self, request: transfer_pb2.DownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[types_pb2.Chunk]:
        self.state.offsets.append(request.offset)
        for offset in range(request.offset, len(self.state.served), 1 << 20):
            yield types_pb2.Chunk(offset=offset, data=self.state.served[offset : offset + (1 << 20)])
            if self.state.cut:
                self.state.cut -= 1
                context.set_trailing_metadata((("unisono-code", "unavailable"), ("unisono-retry-after", "0")))
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")


class Enrolment(EnrolmentServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def Enrol(
        self, request: enrolment_pb2.EnrolRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.EnrolReply:
        raise NotImplementedError("no operator enrols")

    def Renew(
        self, request: enrolment_pb2.RenewRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.RenewReply:
        peer = peer_of(bytes(context.auth_context()["x509_pem_cert"][0]))
        self.state.renewals += 1
        certificate = CA.issue_tls(request.tls_csr, "admin", peer.name, time.time(), 30 * DAY)
        return enrolment_pb2.RenewReply(tls_certificate=certificate)


@dataclass
class Desk:
    """An operator's desk: a folder with credentials, a coordinator, and what commands printed."""

    folder: Path
    address: str
    state: State
    capture: pytest.CaptureFixture[str]

    def run(self, *argv: str) -> tuple[int, str, str]:
        code = main([*argv, "--dir", str(self.folder)])
        shown = self.capture.readouterr()
        return code, shown.out, shown.err

    def json(self, *argv: str) -> dict[str, object]:
        code, out, err = self.run(*argv, "--json")
        assert (code, err) == (0, ""), err
        found = json.loads(out)
        assert isinstance(found, dict)
        return found


def credentials(
    directory: Path,
    address: str,
    *,
    age: float = 0.0,
    life: float = 30 * DAY,
    role: str = "admin",
    ca: Authority = CA,
) -> Path:
    folder, key = directory / role, TlsKey.generate()
    folder.mkdir(exist_ok=True)
    stem = "admin" if role == "admin" else "tls"
    name = ca.issue_tls(
        request(key), "admin" if role == "admin" else "client", "someone", time.time() - age, life
    )
    (folder / f"{stem}.key").write_bytes(key.to_pem())
    (folder / f"{stem}.pem").write_bytes(name)
    (folder / "ca.pem").write_bytes(ca.certificate_pem)
    (folder / f"{role}.toml").write_text(f'coordinator = "{address}"\nfederation = "cardio"\n')
    return folder


def plan_file(folder: Path, text: str = PLAN) -> str:
    file = folder / "plan.toml"
    file.write_text(text)
    return str(file)
