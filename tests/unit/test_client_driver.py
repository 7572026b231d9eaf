"""The driver against a coordinator in this process: real mutual TLS, the real trainer, the real vault."""

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

from unisono import strategies
from unisono.base.ids import ClientName, Digest, RunId
from unisono.base.system_clock import SystemClock
from unisono.client.config import Config
from unisono.client.policy import Policy
from unisono.client.runtime import notices
from unisono.client.runtime.approvals import Answer, Approvals, Question
from unisono.client.runtime.files import swap_pair, write_private
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.notices import Notice
from unisono.client.runtime.site import World, opened
from unisono.client.runtime.vault import Identity, Vault
from unisono.client.session import Left, Update, UpdateKey
from unisono.codec import Spec, decode_head
from unisono.crypto import (
    ENVELOPE,
    SealingKey,
    SigningKey,
    TlsKey,
    encode,
    layout,
    open_from,
    plain_length,
    sha256_hex,
    system_entropy,
)
from unisono.identity import Authority, peer_of, request
from unisono.plan import canonical, digest, parse
from unisono.tensors import Manifest
from unisono.wire.v1 import enrolment_pb2 as epb
from unisono.wire.v1 import enrolment_pb2_grpc, round_pb2_grpc, transfer_pb2_grpc
from unisono.wire.v1 import round_pb2 as pb
from unisono.wire.v1 import transfer_pb2 as tpb
from unisono.wire.v1 import types_pb2 as types

CLOCK, RUN = SystemClock(), "r-0001"
ALLOWS = Policy(protections=("secagg", "sealed"))
PLAN = parse(b'task = "halves"\n[rounds]\ncount = 2\n[protection]\nmode = "sealed"\n')
TASK = """
import numpy as np
from unisono.client import Task

class Halves(Task):
    metric_names = ("loss",)
    def model(self):
        return {"w": np.ones(1000, np.float32)}
    def train(self, model, context):
        model["w"] *= np.float32(0.5)
        return 10
    def evaluate(self, model, context):
        return {"loss": (float(np.square(model["w"]).sum()), 1000.0)}
"""


@dataclass
class Coordinator(
    round_pb2_grpc.RoundServiceServicer,
    transfer_pb2_grpc.TransferServiceServicer,
    enrolment_pb2_grpc.EnrolmentServiceServicer,
):
    """Gives its duties one after the other, each until it is done."""

    authority: Authority
    sealing: SealingKey
    duties: list[Callable[["Coordinator"], pb.Instruction]] = field(default_factory=list)
    submitted: list[pb.SubmitRequest] = field(default_factory=list)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    serials: list[str] = field(default_factory=list)
    models: dict[str, bytes] = field(default_factory=dict)
    manifest: Manifest | None = None
    refuse: dict[str, tuple[grpc.StatusCode, str, int]] = field(default_factory=dict)  # method -> code, times
    idle: threading.Event = field(default_factory=threading.Event)
    step: int = 0
    looked: Callable[[], None] = lambda: None  # what somebody at the site does when it says that it looks
    ended: bool = False  # all runs have, and nobody has told this client
    kind: int = 0  # of rounds, as a later version may have it

    def _may(self, method: str, context: grpc.ServicerContext) -> None:
        status, code, times = self.refuse.get(method, (grpc.StatusCode.OK, "", 0))
        if times:
            self.refuse[method] = status, code, times - 1
            if code:
                context.set_trailing_metadata((("unisono-code", code),))
            context.abort(status, f"{method}: {code}")

    def Hello(self, asked: pb.HelloRequest, context: grpc.ServicerContext) -> pb.HelloReply:  # noqa: N802
        self._may("Hello", context)
        self.serials.append(peer_of(bytes(context.auth_context()["x509_pem_cert"][0])).serial)
        return pb.HelloReply(
            software="0", protocol=1, federation="cardio", name="hospital-a", number=1, wall=CLOCK.wall(),
            sealing_certificate=self.authority.issue_sealing(self.sealing.public, CLOCK.wall()),
            long_poll_seconds=0.05, receipts_certificate=self._certificate() if self.ended else b"",
        )  # fmt: skip

    def _certificate(self) -> bytes:
        return self.authority.issue_receipts(SigningKey.from_bytes(bytes(32)).public, CLOCK.wall())

    def NextInstruction(  # noqa: N802
        self, asked: pb.NextInstructionRequest, context: grpc.ServicerContext
    ) -> pb.Instruction:
        self._may("NextInstruction", context)
        if self.step < len(self.duties) and asked.cursor != self.step + 1:
            cursor = self.step + 1
            found = self.duties[self.step](self)
            found.cursor = cursor
            return found
        signature = b"" if not self.kind else bytes(64)
        over = [
            pb.Receipt(
                run=sent.run,
                round=sent.round,
                reason="stopped",
                signature=signature,
                kind=self.kind,  # type: ignore[arg-type]  # one that is not known
            )
            for sent in asked.receipts_due
        ]
        if self.step == len(self.duties) and not over:
            self.idle.set()
        return pb.Instruction(cursor=asked.cursor, idle=pb.Idle(), receipts=over)

    def Submit(self, asked: pb.SubmitRequest, context: grpc.ServicerContext) -> pb.SubmitReply:  # noqa: N802
        self._may("Submit", context)
        self.submitted.append(asked)
        if asked.HasField("joined"):
            self.manifest = Manifest.decode(asked.joined.manifest)
        if asked.HasField("looking"):
            self.looked()
        elif not asked.HasField("progress") and not asked.HasField("leaving"):
            self.step += 1
        return pb.SubmitReply()

    def Renew(self, asked: epb.RenewRequest, context: grpc.ServicerContext) -> epb.RenewReply:  # noqa: N802
        return epb.RenewReply(
            tls_certificate=self.authority.issue_tls(asked.tls_csr, "client", "hospital-a", CLOCK.wall(), 900)
        )

    def Enrol(self, asked: epb.EnrolRequest, context: grpc.ServicerContext) -> epb.EnrolReply:  # noqa: N802
        raise NotImplementedError

    def Begin(self, asked: tpb.BeginRequest, context: grpc.ServicerContext) -> tpb.BeginReply:  # noqa: N802
        self._may("Begin", context)
        got = self.uploads.setdefault(asked.key.sha256.hex(), bytearray())
        return tpb.BeginReply(offset=len(got), complete=len(got) == asked.key.bytes)

    def Upload(  # noqa: N802
        self, chunks: Iterator[types.Chunk], context: grpc.ServicerContext
    ) -> tpb.UploadReply:
        key = None
        for chunk in chunks:
            key = key or chunk.key
            got = self.uploads[key.sha256.hex()]
            assert chunk.offset == len(got)
            half = len(chunk.data) // 2 if self.refuse.get("Upload", ("", "", 0))[2] else len(chunk.data)
            got += chunk.data[:half]
            self._may("Upload", context)
        assert key is not None
        name, got = key.sha256.hex(), self.uploads[key.sha256.hex()]
        assert sha256_hex(got) == name
        if key.purpose == types.UploadKey.MODEL:
            self.models[name] = bytes(got)
        self.step += 1
        return tpb.UploadReply(offset=len(got), complete=True)

    def Download(  # noqa: N802
        self, asked: tpb.DownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[types.Chunk]:
        yield types.Chunk(offset=asked.offset, data=self.models[asked.sha256.hex()][asked.offset :])


def consider(of: Coordinator) -> pb.Instruction:
    return pb.Instruction(consider=pb.Consider(run=RUN, plan=canonical(PLAN), cohort=3))


def send_model(of: Coordinator) -> pb.Instruction:
    model = next(asked.joined.model_sha256 for asked in of.submitted if asked.HasField("joined"))
    return pb.Instruction(send_model=pb.SendModel(run=RUN, model_sha256=model))


def spec(of: Coordinator) -> Spec:
    assert of.manifest is not None
    strategy = strategies.load("fedavg")
    parts = strategy.parts(strategy.Parameters(), of.manifest)
    return strategies.spec_for(
        parts, {"delta": 9.0} | {p.name: 9.0 for p in parts}, ("loss",), lanes=32, clients=3
    )


def work(of: Coordinator) -> pb.Instruction:
    ((model, data),) = of.models.items()
    return pb.Instruction(
        work=pb.Work(
            attempt=types.Attempt(run=RUN, round=1, attempt=1), kind=pb.Work.TRAIN,
            plan_sha256=bytes.fromhex(digest(PLAN)), model_sha256=bytes.fromhex(model), model_bytes=len(data),
            spec=spec(of).encode(), idle_seconds=60,
        )
    )  # fmt: skip


def renewing(of: Coordinator) -> pb.Instruction:
    found = work(of)
    found.renew = len(set(of.serials)) == 1
    return found


def foreign(of: Coordinator) -> pb.Instruction:
    found = work(of)
    found.work.spec = strategies.spec_for((), {}, ("loss",), lanes=32, clients=3).encode()
    return found


@dataclass
class Site:
    """A folder that has joined, and what its person saw."""

    folder: Path
    address: str
    seen: list[Notice] = field(default_factory=list)

    def live(
        self,
        coordinator: Coordinator,
        policy: Policy | None = None,
        show: Callable[[Notice], None] | None = None,
    ) -> Left:
        """Run a client until the coordinator has nothing more to do, or it ends by itself."""
        halt, config = (
            Halt(),
            Config(coordinator=self.address, tasks={"halves": f"{self.folder}/task.py:Halves"}),
        )
        world = World(show or self.seen.append, CLOCK, halt)
        with ThreadPoolExecutor(1) as pool, opened(self.folder, config, policy or ALLOWS, world) as driver:
            future = pool.submit(driver.run)
            deadline = CLOCK.ticks() + 30
            while not future.done() and not coordinator.idle.wait(0.02) and CLOCK.ticks() < deadline:
                pass
            halt.ask()
            left = future.result(30)
        halt.close()
        assert CLOCK.ticks() < deadline
        return left

    def steps(self) -> list[str]:
        return [notice.what for notice in self.seen if isinstance(notice, notices.Stepped)]


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator(Authority.create("cardio", CLOCK.wall()), SealingKey.generate(system_entropy))


@pytest.fixture
def site(coordinator: Coordinator, tmp_path: Path) -> Iterator[Site]:
    authority, key = coordinator.authority, TlsKey.generate()
    server = grpc.server(ThreadPoolExecutor(4))
    round_pb2_grpc.add_RoundServiceServicer_to_server(coordinator, server)
    transfer_pb2_grpc.add_TransferServiceServicer_to_server(coordinator, server)
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(coordinator, server)
    certificate = authority.issue_server(request(key), ["localhost"], CLOCK.wall())
    credentials = grpc.ssl_server_credentials(
        [(key.to_pem(), certificate)], authority.certificate_pem, require_client_auth=True
    )
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    mine = TlsKey.generate()
    write_private(tmp_path / "ca.pem", authority.certificate_pem)
    write_private(tmp_path / "vault.key", bytes(32))
    write_private(tmp_path / "signing.key", bytes(32))
    signing = request(SigningKey.from_bytes(bytes(32)))
    write_private(tmp_path / "signing.pem", authority.issue_signing(signing, "hospital-a", CLOCK.wall()))
    swap_pair(
        tmp_path,
        "tls",
        mine.to_pem(),
        authority.issue_tls(request(mine), "client", "hospital-a", CLOCK.wall(), 900),
    )
    (tmp_path / "task.py").write_text(TASK)
    vault = Vault(tmp_path, CLOCK)
    vault.joined(Identity("cardio", ClientName("hospital-a"), 1), "key")
    vault.close()
    yield Site(tmp_path, f"localhost:{port}")
    server.stop(None).wait()


def head_of(coordinator: Coordinator) -> dict[str, float]:
    """Open the update that arrived, as a coordinator does, and read the words behind its lanes."""
    (model,) = coordinator.models
    (sealed,) = (raw for name, raw in coordinator.uploads.items() if name != model)
    wanted = spec(coordinator)
    context = encode("update", RUN, 1, "hospital-a", model, wanted.digest)
    opener = open_from(coordinator.sealing, bytes(sealed[:ENVELOPE]), context)
    body, plain = bytes(sealed[ENVELOPE:]), bytearray()
    for index, start, stop, last in layout(plain_length(len(body))):
        at = start + 16 * index
        plain += opener.open(index, body[at : at + stop - start + 16], last=last)
    return decode_head(np.frombuffer(plain, "<u8")[wanted.head_offset :], wanted)


def test_a_round_from_plan_to_update(coordinator: Coordinator, site: Site) -> None:
    coordinator.duties = [consider, send_model, work]
    assert site.live(coordinator) == Left()
    head = head_of(coordinator)
    assert (head["one"], head["loss.sum"], head["loss.count"]) == (1.0, 1000.0, 1000.0)
    assert site.steps() == ["training", "upload"]  # the model of the seed was here already
    assert coordinator.submitted[-1].HasField("leaving")
    vault = Vault(site.folder, CLOCK)
    lines = vault.audit()
    assert [line.kind for line in lines] == ["joined", "accepted", "model_sent", "released"]
    assert lines[-1].detail["sha256"] in coordinator.uploads
    vault.close()


def test_a_client_that_was_cut_off_sends_the_same_bytes_without_training_again(
    coordinator: Coordinator, site: Site
) -> None:
    coordinator.duties = [consider, send_model, work]

    def break_off(of: Coordinator) -> pb.Instruction:
        of.refuse["Upload"] = grpc.StatusCode.PERMISSION_DENIED, "not_enrolled", 1
        return work(of)

    coordinator.duties[2] = break_off
    assert site.live(coordinator).code == "not_enrolled"
    assert site.steps() == ["training"]
    half = {name: len(raw) for name, raw in coordinator.uploads.items()}
    site.seen.clear()
    coordinator.duties[2] = work
    assert site.live(coordinator) == Left()
    assert site.steps() == ["upload"]
    assert half.keys() == coordinator.uploads.keys()
    assert head_of(coordinator)["one"] == 1.0


@pytest.mark.parametrize(("kind", "noted"), [(0, "not_counted"), (99, "receipt_refused")])
def test_files_of_runs_whose_end_nobody_told_are_asked_about_and_go(
    coordinator: Coordinator, site: Site, kind: int, noted: str
) -> None:
    """An answer tells of one run; a client of several that missed the end of another kept its files.

    Nor does it ask, as fast as the line goes, about a round whose receipt it cannot read.
    """
    updates = site.folder / "updates"
    coordinator.duties = [consider, send_model, work]
    assert site.live(coordinator) == Left()
    unsent = UpdateKey(RunId("r-0002"), 3, Digest("ab" * 32), Digest("cd" * 32))
    vault = Vault(site.folder, CLOCK)
    (updates / "unsent").write_bytes(b"not sent")
    vault.finish(Update(unsent, "unsent", sha256_hex(b"not sent"), 8), "ef" * 32)
    assert sorted(vault.kept()) == [(RUN, 1), ("r-0002", 3)]
    vault.close()
    assert len(list(updates.iterdir())) == 2
    coordinator.ended, coordinator.kind = True, kind
    coordinator.idle.clear()
    assert site.live(coordinator) == Left()
    assert not list(updates.iterdir())
    vault = Vault(site.folder, CLOCK)
    assert vault.kept() == ()
    assert [line.kind for line in vault.audit()][-1] == noted, "of what was sent"
    vault.close()


def test_who_is_asked_to_leave_while_its_screen_finds_no_room_leaves(
    coordinator: Coordinator, site: Site
) -> None:
    """Its stdout is a file on the disk that is full."""

    def show(notice: Notice) -> None:
        assert isinstance(notice, notices.CannotReach)
        coordinator.idle.set()  # and `live` asks it to leave
        raise OSError(errno.ENOSPC, "No space left on device")

    coordinator.refuse["Hello"] = grpc.StatusCode.UNAVAILABLE, "", 1000
    assert site.live(coordinator, show=show) == Left()


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE, ""
BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED, "unavailable"
RESTARTED = grpc.StatusCode.FAILED_PRECONDITION, "hello_first"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("Hello", UNAVAILABLE),
        ("NextInstruction", RESTARTED),
        ("Submit", UNAVAILABLE),
        ("Begin", BUSY),
        ("Upload", UNAVAILABLE),
        ("Upload", RESTARTED),
    ],
)
def test_a_call_that_breaks_is_made_again(
    coordinator: Coordinator, site: Site, method: str, answer: tuple[grpc.StatusCode, str]
) -> None:
    status, code = answer
    coordinator.duties = [consider, send_model, work]
    coordinator.refuse[method] = status, code, 1
    assert site.live(coordinator) == Left()
    assert head_of(coordinator)["one"] == 1.0
    assert site.steps() == ["training", "upload"]


def test_a_certificate_is_renewed_in_the_middle_of_a_run(coordinator: Coordinator, site: Site) -> None:
    coordinator.duties = [consider, send_model, renewing]
    assert site.live(coordinator) == Left()
    assert len(set(coordinator.serials)) == 2
    assert peer_of((site.folder / "tls.pem").read_bytes()).serial == coordinator.serials[-1]
    assert site.steps() == ["training", "upload"]


def test_a_plan_outside_the_policy_is_declined_with_the_reason(coordinator: Coordinator, site: Site) -> None:
    coordinator.duties = [consider]
    assert site.live(coordinator, Policy(protections=("sealed",), min_cohort=5)) == Left()
    (no,) = (asked.declined for asked in coordinator.submitted if asked.HasField("declined"))
    assert (no.run, no.code) == (RUN, "outside_policy")
    assert no.reason == "policy min_cohort = 5; the cohort has 3"


def test_a_round_that_does_not_fit_the_plan_is_not_worked_on(coordinator: Coordinator, site: Site) -> None:
    coordinator.duties = [consider, send_model, foreign]
    assert site.live(coordinator) == Left()
    (no,) = (asked.task_failed for asked in coordinator.submitted if asked.HasField("task_failed"))
    assert no.code == "bad_spec"
    assert "training" not in site.steps()


def test_work_for_a_plan_that_was_never_shown_is_not_done(coordinator: Coordinator, site: Site) -> None:
    coordinator.manifest = Manifest((), ("loss",))
    coordinator.models = {"a" * 64: b"model"}
    coordinator.duties = [foreign]
    assert site.live(coordinator) == Left()
    assert coordinator.submitted[0].task_failed.code == "not_joined"


def test_a_task_that_raises_is_reported_without_its_words(coordinator: Coordinator, site: Site) -> None:
    broken = TASK.replace('model["w"] *= np.float32(0.5)', 'raise ValueError("patient Meier, born 1948")')
    (site.folder / "task.py").write_text(broken)
    coordinator.duties = [consider, send_model, work]
    assert site.live(coordinator) == Left()
    (no,) = (asked.task_failed for asked in coordinator.submitted if asked.HasField("task_failed"))
    assert no.code == "task_error"
    assert "Meier" not in no.text
    assert "Meier" in (site.folder / "trainer.log").read_text()


def test_a_revoked_client_ends(coordinator: Coordinator, site: Site) -> None:
    coordinator.refuse["Hello"] = grpc.StatusCode.PERMISSION_DENIED, "not_enrolled", 9
    assert site.live(coordinator) == Left("not_enrolled", "Hello: not_enrolled")


def test_an_attempt_that_is_over_leads_to_the_next_instruction(coordinator: Coordinator, site: Site) -> None:
    coordinator.duties = [consider, send_model, work]

    def late(of: Coordinator) -> pb.Instruction:
        of.refuse["Begin"] = grpc.StatusCode.FAILED_PRECONDITION, "wrong_phase", 1
        of.duties.append(work)  # the next attempt
        of.step += 1
        return work(of)

    coordinator.duties[2] = late
    assert site.live(coordinator) == Left()
    assert site.steps() == ["training", "upload"]


def test_a_plan_waits_for_somebody_here_and_goes_on_when_they_approved(
    coordinator: Coordinator, site: Site
) -> None:
    """The coordinator asks once; the client notices the answer by itself."""
    seen: list[str] = []

    def look() -> None:
        box = Approvals(site.folder)
        (record,) = box.records()
        seen.append(record.state)
        box.say(record, Answer(said="approved", wall=CLOCK.wall()))

    coordinator.looked = look
    coordinator.duties = [consider, send_model]
    ask = Policy(protections=("sealed",), approve="ask")
    assert site.live(coordinator, ask) == Left()
    kinds = [found.WhichOneof("what") for found in coordinator.submitted]
    assert kinds == ["looking", "joined", "leaving"]
    assert seen == ["waiting"]
    assert coordinator.models


def test_a_plan_that_somebody_here_rejected_is_declined_with_their_reason(
    coordinator: Coordinator, site: Site
) -> None:
    box = Approvals(site.folder)
    plan = canonical(PLAN).decode()
    box.ask(Question(digest=digest(PLAN), plan=plan, run=RUN, cohort=3, asked=0.0, waits=True))
    box.say(box.records()[0], Answer(said="rejected", reason="not with these data", wall=0.0))
    coordinator.duties = [consider]
    assert site.live(coordinator) == Left()
    (no,) = (found.declined for found in coordinator.submitted if found.HasField("declined"))
    assert (no.code, "not with these data" in no.reason) == ("plan_not_approved", True)
