"""The operator's commands against a real gRPC server with mutual TLS whose state is a few dictionaries."""

# ruff: noqa: N802 - the methods of a service are named as in its proto
from __future__ import annotations  # the classes of grpc are generic in its stubs only

import json
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

from unisono import tensors
from unisono.cli import main
from unisono.crypto import TlsKey, sha256_hex
from unisono.identity import Authority, peer_of, request
from unisono.plan import digest, from_canonical, parse
from unisono.wire.v1 import admin_pb2, enrolment_pb2, transfer_pb2, types_pb2
from unisono.wire.v1.admin_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server
from unisono.wire.v1.enrolment_pb2_grpc import (
    EnrolmentServiceServicer,
    add_EnrolmentServiceServicer_to_server,
)
from unisono.wire.v1.transfer_pb2_grpc import TransferServiceServicer, add_TransferServiceServicer_to_server

NOW = time.time()
DAY = 86_400.0
LINE = "uni1.secret.0123"
CA = Authority.create("cardio", NOW - 100 * DAY)
MODEL = tensors.write({"weight": np.arange(400_000, dtype=np.float32)})
PLAN = 'task = "readmission"\n[rounds]\ncount = 3\n'


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

    def run(self, state: str = "") -> dict[str, object]:
        status = {"stage": "in_round", "phase": "collecting", "round": 2, "rounds": 3, "sentence": "waits"}
        return {
            "id": "r-0007", "state": state or self.run_state, "protection": "sealed", "privacy": {},
            "reason": self.reason, "plan_sha256": "ab" * 32,
            "rounds": [round_of(1), round_of(2)], "model_sha256": sha256_hex(MODEL), "task": "readmission",
            "started": NOW, "status": status,
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
        return document(self.state.run())

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


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, State]]:
    state, key = State(), TlsKey.generate()
    certificate = CA.issue_server(request(key), ["localhost"], NOW)
    credentials = grpc.ssl_server_credentials(
        [(key.to_pem(), certificate)], CA.certificate_pem, require_client_auth=True
    )
    with ThreadPoolExecutor(4) as pool:
        grpc_server = grpc.server(pool)
        add_AdminServiceServicer_to_server(Admin(state), grpc_server)
        add_TransferServiceServicer_to_server(Transfer(state), grpc_server)
        add_EnrolmentServiceServicer_to_server(Enrolment(state), grpc_server)
        port = grpc_server.add_secure_port("localhost:0", credentials)
        grpc_server.start()
        yield f"localhost:{port}", state
        grpc_server.stop(None).wait()


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


@pytest.fixture
def desk(server: tuple[str, State], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    address, state = server
    state.__init__()  # type: ignore[misc]  # a fresh state for the server that all tests share
    return Desk(credentials(tmp_path, address).parent, address, state, capsys)


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


def test_a_token_is_one_line(desk: Desk) -> None:
    code, out, _ = desk.run("token", "create", "hospital-a", "--ttl", "2h")
    assert (code, out) == (0, LINE + "\n")
    asked = desk.state.tokens[0]
    assert (asked.name, asked.ttl_seconds, asked.uses) == ("hospital-a", 7200.0, 1)


def test_a_token_in_a_file_is_for_its_owner_and_never_overwritten(desk: Desk) -> None:
    file = desk.folder / "a.token"
    code, out, err = desk.run("token", "create", "hospital-a", "-o", str(file))
    assert (code, out) == (0, "")
    assert f"unisono join {desk.address} --token {file}" in err
    assert file.read_text() == LINE + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert desk.run("token", "create", "hospital-a", "-o", str(file))[0] == 3
    assert len(desk.state.tokens) == 1  # refused before another token was made


def test_a_token_for_many_numbers_its_clients(desk: Desk) -> None:
    assert desk.json("token", "create", "--uses", "3", "--name-prefix", "edge")["uses"] == 3
    assert (desk.state.tokens[0].name, desk.state.tokens[0].uses) == ("edge", 3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "needs the name of its client"),
        (["a", "--name-prefix", "b"], "not both"),
        (["a", "--uses", "2"], "cannot all be called"),
        (["Hospital A"], "cannot be a client's name"),
        (["a", "--ttl", "tomorrow"], "is not a duration"),
    ],
)
def test_a_wrong_token_is_refused_before_anyone_is_asked(desk: Desk, argv: list[str], message: str) -> None:
    code, out, err = desk.run("token", "create", *argv)
    assert (code, out) == (3, "")
    assert message in err
    assert len(err.splitlines()) <= 3
    assert not desk.state.tokens


def test_clients_for_people_and_for_scripts(desk: Desk) -> None:
    code, out, _ = desk.run("clients")
    assert code == 0
    head, first, second = out.splitlines()
    assert head.split()[:3] == ["number", "name", "state"]
    assert first.split()[:4] == ["1", "hospital-a", "online", "now"]
    assert second.split()[:4] == ["2", "hospital-b", "offline", "never"]
    clients = desk.json("clients")["clients"]
    assert isinstance(clients, list)
    assert clients[0]["software"] == "0.1.0"


def test_revoke(desk: Desk) -> None:
    assert desk.run("revoke", "hospital-a", "--reason", "left")[0] == 0
    assert desk.state.revoked == {"hospital-a": "left"}
    assert desk.run("revoke", "hospital-z") == (1, "", 'nobody is called "hospital-z"\n')


def test_no_token_left_is_said_in_words(desk: Desk) -> None:
    assert "no token can be used" in desk.run("token", "list")[1]


def test_health_is_an_exit_code(desk: Desk) -> None:
    code, out, _ = desk.run("health")
    assert code == 0
    assert f'{desk.address} is ok: federation "cardio"' in out
    desk.state.health = "degraded"
    code, out, _ = desk.run("health")
    assert code == 1
    assert "attention: the disk is nearly full" in out


def test_a_run_starts_with_the_plan_in_canonical_bytes(desk: Desk) -> None:
    assert desk.json("run", "start", plan_file(desk.folder), "--from", "r-0003") == {"id": "r-0007"}
    asked = desk.state.started[0]
    assert from_canonical(asked.plan).rounds.count == 3
    assert (asked.from_run, asked.model_sha256) == ("r-0003", b"")


def test_a_wrong_plan_is_refused_here_with_file_key_and_line(desk: Desk) -> None:
    file = plan_file(desk.folder, PLAN + '[aggregation]\nstratgy = "fedavg"\n')
    code, out, err = desk.run("run", "start", file)
    assert (code, out) == (3, "")
    assert err == f'{file}: [aggregation] stratgy is not a known key\n  line 5; did you mean "strategy"?\n'
    assert desk.run("run", "start", str(desk.folder / "none.toml"))[0] == 3
    assert not desk.state.started


def test_an_initial_model_goes_up_first_from_where_an_earlier_try_stopped(desk: Desk) -> None:
    (desk.folder / "first.safetensors").write_bytes(MODEL)
    desk.state.uploaded += MODEL[:1000]
    plan = plan_file(desk.folder, PLAN + '[model]\ninit = "first.safetensors"\n')
    code, out, err = desk.run("run", "start", plan)
    assert (code, bytes(desk.state.uploaded)) == (0, MODEL), err
    assert desk.state.started[0].model_sha256.hex() == sha256_hex(MODEL)
    assert out.startswith("r-0007 started: readmission, 3 rounds, sealed\n")
    (desk.folder / "first.safetensors").write_bytes(b"no model at all")
    assert desk.run("run", "start", plan)[0] == 3
    assert desk.run("run", "start", plan, "--from", "r-0001")[0] == 3


def test_a_run_can_be_watched_from_its_start(desk: Desk) -> None:
    code, out, _ = desk.run("run", "start", plan_file(desk.folder), "--watch")
    assert code == 0
    assert out.splitlines()[-1].endswith(f"event=ended state=finished model={sha256_hex(MODEL)}")


def test_runs_are_listed_shown_and_stopped(desk: Desk) -> None:
    assert desk.run("run", "list")[1].splitlines()[1].split()[:3] == ["r-0007", "running", "readmission"]
    code, out, _ = desk.run("run", "show")
    assert code == 0
    assert "1 of 2" in out
    assert "r-0007 finished: 2 rounds in 0.50 s   loss 0.5  accuracy 0.9" in out
    assert desk.json("run", "show", "r-0007") == desk.state.run()
    assert desk.run("run", "show", "r-0008") == (1, "", "there is no run r-0008\n")
    desk.state.reason = "stopped by someone in round 3"
    code, out, _ = desk.run("run", "stop", "r-0007")
    assert (code, out.splitlines()[0]) == (0, "r-0007 stopped by someone in round 3")
    assert "--from r-0007" in out


def test_a_failed_run_is_exit_code_one_with_its_reason(desk: Desk) -> None:
    desk.state.run_state, desk.state.reason = "failed", "too few"
    code, out, err = desk.run("run", "watch")
    assert code == 1
    assert "phase=collecting event=uploaded client=hospital-a" in out
    assert err.startswith("r-0007 failed: too few\n")
    code, out, _ = desk.run("run", "watch", "--json")
    assert (code, [json.loads(line)["state"] for line in out.splitlines()]) == (1, ["running", "failed"])


@pytest.mark.parametrize("role", ["admin", "client"])
def test_a_model_is_pulled_with_its_card(desk: Desk, tmp_path: Path, role: str) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    credentials(folder, desk.address, role=role)
    desk.state.cut = 1
    target = tmp_path / "m.safetensors"
    desk.folder = folder
    found = desk.json("model", "pull", "-o", str(target))
    assert target.read_bytes() == MODEL
    assert desk.state.offsets == [0, 1 << 20]
    assert desk.state.peers == [role]
    assert (found["sha256"], found["round"]) == (sha256_hex(MODEL), 2)
    card = target.with_suffix(".md").read_text()
    for words in (
        "| run | r-0007 |",
        "ab" * 32,
        "loss 0.5  accuracy 0.9",
        "| clients | 2 |",
        sha256_hex(MODEL),
    ):
        assert words in card
    assert ("## Rounds" in card) == (role == "admin")


def test_a_model_that_does_not_match_its_digest_is_not_kept(desk: Desk, tmp_path: Path) -> None:
    desk.state.served = MODEL[:-1] + b"x"
    code, out, err = desk.run("model", "pull", "-o", str(tmp_path / "m.safetensors"))
    assert (code, out) == (1, "")
    assert "have digest" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["admin"]


def test_models_are_listed_and_a_missing_round_names_those_there_are(desk: Desk, tmp_path: Path) -> None:
    assert "best" in desk.run("model", "list")[1].splitlines()[1]
    code, _, err = desk.run("model", "pull", "--round", "9", "-o", str(tmp_path / "m.safetensors"))
    assert code == 1
    assert "keeps no model of round 9; kept: 1 (best), 2" in err
    assert desk.run("model", "pull", "-o", str(tmp_path / "no" / "m.safetensors"))[0] == 3


def test_plan_check_forecasts_and_asks_who_would_take_part(desk: Desk) -> None:
    file = plan_file(desk.folder)
    code, out, _ = desk.run("plan", "check", file, "--clients", "8", "--link", "20Mbit")
    assert code == 0
    assert f'{file} is valid: task "readmission", fedavg, sealed' in out
    assert "25.0 MB down and 25.0 MB up in a round: 20 s on 20Mbit" in out
    assert "1 of 2 connected would take part" in out
    assert "hospital-b no: offers no task 'readmission', only x" in out
    told = desk.json("plan", "check", file)
    assert told["plan_sha256"] == digest(parse(Path(file).read_bytes()))
    assert isinstance(told["forecast"], dict)
    assert told["forecast"]["bytes_down"] == 25_000_000


def test_plan_check_without_a_coordinator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = plan_file(tmp_path)
    assert main(["plan", "check", file, "--dir", str(tmp_path)]) == 0
    assert "cost      unknown: the clients make the model" in capsys.readouterr().out
    assert main(["plan", "check", file, "--dir", str(tmp_path), "--mb", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["forecast"]["bytes_down"] == 4_000_000
    assert told["clients"] is None
    (tmp_path / "first.safetensors").write_bytes(MODEL)
    file = plan_file(tmp_path, PLAN + '[model]\ninit = "first.safetensors"\n')
    assert main(["plan", "check", file, "--dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forecast"]["bytes_down"] == len(MODEL)
    credentials(tmp_path, "localhost:1")
    assert main(["plan", "check", file, "--dir", str(tmp_path)]) == 0
    assert "who would take part is unknown: cannot reach localhost:1" in capsys.readouterr().err


def test_an_unreachable_coordinator_is_exit_code_five(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    credentials(tmp_path, "localhost:1")
    for argv in (["run", "list"], ["run", "watch"], ["health"], ["model", "list"]):
        assert main([*argv, "--dir", str(tmp_path), "--json"]) == 5
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("cannot reach localhost:1: ")


def test_an_expired_certificate_is_exit_code_four(desk: Desk) -> None:
    credentials(desk.folder, desk.address, age=31 * DAY)
    code, _, err = desk.run("run", "list")
    assert code == 4
    assert "expired" in err


def test_a_federation_of_someone_else_is_not_trusted(desk: Desk) -> None:
    credentials(desk.folder, desk.address, ca=Authority.create("other", NOW))
    code, _, err = desk.run("run", "list")
    assert code == 5
    assert "not from this federation's CA" in err


def test_a_folder_that_is_none_says_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "list", "--dir", str(tmp_path)]) == 3
    assert "no admin.toml in" in capsys.readouterr().err
    folder = credentials(tmp_path, "nonsense")
    assert main(["run", "list", "--dir", str(folder)]) == 3
    assert 'coordinator must be "host:port"' in capsys.readouterr().err


def test_the_certificate_is_renewed_by_any_command_once_due(desk: Desk) -> None:
    folder = credentials(desk.folder, desk.address, age=19 * DAY)
    before = (folder / "admin.key").read_bytes(), (folder / "admin.pem").read_bytes()
    assert desk.run("run", "list")[0] == 0
    assert (folder / "admin.key").read_bytes() == before[0]  # not yet
    credentials(desk.folder, desk.address, age=21 * DAY)
    before = (folder / "admin.key").read_bytes(), (folder / "admin.pem").read_bytes()
    assert desk.run("run", "list") == desk.run("run", "list")
    assert desk.state.renewals == 1
    after = (folder / "admin.key").read_bytes(), (folder / "admin.pem").read_bytes()
    assert after[0] != before[0]
    assert peer_of(after[1]).not_after > NOW + 29 * DAY
    assert stat.S_IMODE((folder / "admin.key").stat().st_mode) == 0o600
