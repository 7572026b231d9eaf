"""The wire, and the only place that knows it: session values in, session values out.

A `Link` may be opened again at any time (after a lost connection, with a renewed certificate); the driver
says hello first on each connection.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from unisono.audit import START, Counted, Published, Receipt
from unisono.base.clock import Clock
from unisono.base.errors import BadMessage, Error, Fault, Refused, Unreachable
from unisono.base.ids import ClientName, Digest, RunId, is_digest, is_run
from unisono.client.session import (
    Attempt,
    Consider,
    Declines,
    Fails,
    Idle,
    Instruction,
    Secure,
    SendModel,
    What,
    Work,
    leg_of,
)
from unisono.crypto import sha256_hex
from unisono.identity import sealing_public
from unisono.secagg.shared.roster import Pin
from unisono.wire.chunks import Piece, download_of, upload_of
from unisono.wire.v1 import (
    enrolment_pb2,
    enrolment_pb2_grpc,
    round_pb2,
    round_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
    types_pb2,
)

from .channel import Channel, Credentials, blocking, call, open_channel, translated
from .halt import Halt, stall_guard
from .receipts import Answer, Nothing
from .status import CoordinatorFault, printable
from .strides import Strides
from .uploads import CHUNK, Parcel, Place

if TYPE_CHECKING:
    import grpc

Request = TypeVar("Request")
Reply = TypeVar("Reply")
SOFTWARE = f"unisono/{version('unisono')}"
TIMEOUT = 20.0  # seconds for a call that needs no waiting at the other side
STALL = 60.0  # seconds without a byte in a transfer
PROGRESS_TIMEOUT = 5.0
FIRST_STREAM = 64 << 10  # bytes of a download's stream after a break: a ping passes at 7 kB/s
_STAGES = {
    "preparing": round_pb2.Progress.PREPARING,
    "downloading": round_pb2.Progress.DOWNLOADING,
    "training": round_pb2.Progress.TRAINING,
    "uploading": round_pb2.Progress.UPLOADING,
    "resting": round_pb2.Progress.RESTING,
}
_KINDS: dict[int, What] = {round_pb2.Work.TRAIN: "train", round_pb2.Work.EVALUATE: "evaluate"}
_PURPOSES = {"update": types_pb2.UploadKey.UPDATE, "model": types_pb2.UploadKey.MODEL}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this client says about itself in its hello."""

    tasks: tuple[str, ...]
    protections: tuple[str, ...]
    strategies: tuple[str, ...]
    protocol: tuple[int, int] = (1, 1)
    codecs: tuple[str, ...] = ("lanes/1",)
    upload_limit: int = 0  # bytes a second; 0: none
    hours: str = ""


@dataclass(frozen=True, slots=True)
class Federation:
    """What the coordinator answers to a hello."""

    federation: str
    name: ClientName
    number: int
    sealing_certificate: bytes
    wall: float
    online: int
    enrolled: int
    long_poll_seconds: float
    receipts_certificate: bytes = b""  # of an earlier version: it signs none


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round or a run ended, as far as this client is concerned."""

    run: RunId
    round: int
    state: str
    reason: str
    counted: bool
    survivors: int


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to a poll."""

    cursor: int
    instruction: Instruction
    outcome: Outcome | None
    renew: bool
    receipts: tuple[Answer, ...] = ()


class Link:
    """One connection at a time.  Used by one thread; only `halt` may be asked from another."""

    def __init__(
        self,
        credentials: Callable[[], Credentials],
        address: str,
        can: Capabilities,
        clock: Clock,
        halt: Halt,
    ) -> None:
        self._credentials, self.address, self._can = credentials, address, can
        self._clock, self._halt = clock, halt
        self._channel: Channel | None = None
        self._strides = Strides(FIRST_STREAM)
        self._unasked = False  # the coordinator takes the next upload of one chunk as it comes

    def open(self) -> None:
        """Connect anew, with the credentials as they are now.  Raises BadCredentials if they have expired."""
        made = open_channel(self._credentials(), self.address, self._clock)
        self.close()
        self._channel = made
        self._rounds = round_pb2_grpc.RoundServiceStub(self._channel)
        self._transfer = transfer_pb2_grpc.TransferServiceStub(self._channel)
        self._upload, self._download = upload_of(self._channel), download_of(self._channel)
        self._enrolment = enrolment_pb2_grpc.EnrolmentServiceStub(self._channel)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def hello(self) -> Federation:
        """Say who we are and what we can do.  Raises Refused if there is no common protocol version."""
        low, high = self._can.protocol
        request = round_pb2.HelloRequest(
            software=SOFTWARE, protocol_min=low, protocol_max=high, tasks=self._can.tasks,
            protections=self._can.protections, strategies=self._can.strategies, codecs=self._can.codecs,
            network=round_pb2.Network(upload_limit=self._can.upload_limit, hours=self._can.hours),
        )  # fmt: skip
        reply = self._call(self._rounds.Hello, request, TIMEOUT)
        if not low <= reply.protocol <= high:
            raise Refused(
                f"no common version: {self.address} ({reply.software}) has protocol {reply.protocol}, "
                f"this client ({SOFTWARE}) speaks {low} to {high}"
            )
        return Federation(
            reply.federation, ClientName(reply.name), reply.number, reply.sealing_certificate, reply.wall,
            reply.clients_online, reply.clients_enrolled, reply.long_poll_seconds, reply.receipts_certificate,
        )  # fmt: skip

    def sealing_public(self, found: Federation, wall: float) -> bytes:
        """Return the key that updates are sealed to, its certificate checked.  Raises BadCredentials."""
        return sealing_public(found.sealing_certificate, self._credentials().ca, wall)

    def poll(
        self,
        cursor: int,
        wait: float,
        due: Sequence[tuple[RunId, int]] = (),
        said: tuple[Attempt, bytes] | None = None,
    ) -> Told:
        """Ask what to do, and for receipts of rounds that are `due`; the answer may take `wait` seconds.

        `said` is one message of secure aggregation, said before the wait begins.
        """
        request = round_pb2.NextInstructionRequest(cursor=cursor, wait_seconds=wait)
        if said is not None:
            request.said.CopyFrom(_said(*said))
        request.receipts_due.extend(round_pb2.Sent(run=run, round=round_) for run, round_ in due)
        reply = self._call(self._rounds.NextInstruction, request, wait + TIMEOUT)
        try:
            return _told(reply, len(due))
        except BadMessage as error:
            if said is None:
                raise
            raise CoordinatorFault(str(error)) from None  # what was said was heard: nothing is wrong with it

    def joined(self, run: RunId, manifest: bytes, model: Digest | None) -> None:
        raw = bytes.fromhex(model) if model else b""
        self._submit(joined=round_pb2.Joined(run=run, manifest=manifest, model_sha256=raw))

    def declined(self, answer: Declines) -> None:
        self._submit(
            declined=round_pb2.Declined(run=answer.run, code=answer.code, reason=answer.reason[:2000])
        )

    def looking(self, run: RunId) -> None:
        """Say that somebody here has to look at a plan first."""
        self._submit(looking=round_pb2.Looking(run=run))

    def failed(self, answer: Fails) -> None:
        self._submit(
            task_failed=round_pb2.TaskFailed(
                attempt=_attempt(answer.attempt), code=answer.code, text=answer.text[:2000]
            )
        )

    def said(self, attempt: Attempt, message: bytes) -> None:
        """Say one message of secure aggregation."""
        self._submit(said=_said(attempt, message))

    def progress(self, attempt: Attempt, stage: str, done: int, total: int) -> None:
        self._submit(
            PROGRESS_TIMEOUT,
            progress=round_pb2.Progress(
                attempt=_attempt(attempt), stage=_STAGES[stage], done=done, total=total
            ),
        )

    def leaving(self) -> None:
        """Say goodbye, on a new connection: `halt`, which is why we leave, may have closed the other one."""
        self.open()
        request = round_pb2.SubmitRequest(leaving=round_pb2.Leaving())
        call(self._rounds.Submit, request, PROGRESS_TIMEOUT, self.address)

    def renew(self, csr: bytes) -> bytes:
        """Return a new TLS certificate for the key of `csr`."""
        request = enrolment_pb2.RenewRequest(tls_csr=csr)
        return self._call(self._enrolment.Renew, request, TIMEOUT).tls_certificate

    def download(self, digest: Digest, offset: int, take: Callable[[int, bytes | memoryview], None]) -> None:
        """Fetch what one stream carries: all that there is, or what the line lets pass within seconds."""
        strides, came, began = self._strides, 0, float("inf")

        def counted(at: int, data: bytes | memoryview) -> None:
            nonlocal came, began
            began = min(began, self._clock.ticks())  # a turn that was long waited for is no slow line
            came += len(data)
            if data:
                take(at, data)

        request = transfer_pb2.DownloadRequest(sha256=bytes.fromhex(digest), offset=offset)
        if strides.bound:
            request.length = strides.size
        try:
            self._stream(request, counted)
        except Unreachable:
            strides.broke()
            raise
        strides.arrived(came, self._clock.ticks() - began)

    def _stream(
        self, request: transfer_pb2.DownloadRequest, take: Callable[[int, bytes | memoryview], None]
    ) -> None:
        with translated(self.address, self._halt):
            stream = self._download(request)
            with self._halt.cancelling(stream.cancel), stall_guard(stream.cancel, STALL) as moved:
                try:
                    for chunk in stream:
                        moved()
                        take(chunk.offset, chunk.data)
                finally:
                    stream.cancel()

    def begin(self, parcel: Parcel) -> Place:
        """Ask where to go on.  Once an upload's answer said so, one chunk is not asked for: it begins at 0.

        Whatever goes wrong ends that: of an upload that broke off something may be there.
        """
        if self._unasked and parcel.bytes <= CHUNK:
            self._unasked = False
            return Place(0, False)
        request = transfer_pb2.BeginRequest(key=_key(parcel))
        reply = self._call(self._transfer.Begin, request, TIMEOUT)
        return Place(reply.offset, reply.complete)

    def upload(self, parcel: Parcel, chunks: Iterator[tuple[int, bytes | memoryview]]) -> Place:
        beats: list[Callable[[], None]] = []

        def messages() -> Iterator[Piece]:
            key: types_pb2.UploadKey | None = _key(parcel)
            for offset, data in chunks:
                for beat in beats:
                    beat()
                yield Piece(offset, data, key)
                key = None

        with translated(self.address, self._halt):
            future = self._upload.future(messages())
            with self._halt.cancelling(future.cancel), stall_guard(future.cancel, STALL) as beat:
                beats.append(beat)
                reply = future.result()
        self._unasked = reply.unasked
        if reply.reconnect:
            with suppress(Error, OSError):  # the update is there, and the old connection will do
                self.open()
        return Place(reply.offset, reply.complete)

    def _submit(self, timeout: float = TIMEOUT, **what: object) -> None:
        request = round_pb2.SubmitRequest(**what)  # type: ignore[arg-type]
        self._call(self._rounds.Submit, request, timeout)

    def _call(
        self, method: "grpc.UnaryUnaryMultiCallable[Request, Reply]", request: Request, timeout: float
    ) -> Reply:
        if self._channel is None:
            raise Fault("a call before there is a connection")
        return blocking(method, request, timeout, self.address, self._halt, self._channel.close)


def _receipt(told: round_pb2.Receipt) -> Answer:
    """Read a receipt; federation and name, which do not travel, are filled in by whoever checks it."""
    run = _run(told.run)
    if not told.signature:
        reason = " ".join(printable(told.reason[:200]).split())  # one line: it stands in a table
        return Nothing(run, told.round, reason or "no reason given")
    try:
        published = Published(
            ca=START, run=run, round=told.round, attempt=told.attempt, what=_what(told.kind),
            count=told.count, root=Digest(told.root.hex()), model=Digest(told.model_sha256.hex()),
            audit=Digest(told.audit_sha256.hex()), wall=told.wall,
        )  # fmt: skip
        path = tuple(Digest(step.hex()) for step in told.path)
        counted = Counted(ClientName(""), Digest(told.update_sha256.hex()), told.index, path)
        return Receipt(published, counted, told.signature.hex())
    except BadMessage as wrong:
        return Nothing(run, told.round, str(wrong), readable=False)


def _told(reply: round_pb2.Instruction, due: int) -> Told:
    outcome = None
    if reply.HasField("last"):
        last = reply.last
        outcome = Outcome(
            _run(last.run), last.round, last.state, printable(last.reason), last.counted, last.survivors
        )
    receipts = tuple(_receipt(told) for told in reply.receipts[:due])
    return Told(reply.cursor, _instruction(reply), outcome, reply.renew, receipts)


def _said(attempt: Attempt, message: bytes) -> round_pb2.Said:
    return round_pb2.Said(attempt=_attempt(attempt), message=message)


def _attempt(attempt: Attempt) -> types_pb2.Attempt:
    return types_pb2.Attempt(run=attempt.run, round=attempt.round, attempt=attempt.attempt)


def _key(parcel: Parcel) -> types_pb2.UploadKey:
    return types_pb2.UploadKey(
        purpose=_PURPOSES[parcel.purpose],
        attempt=_attempt(parcel.attempt),
        sha256=bytes.fromhex(parcel.sha256),
        bytes=parcel.bytes,
    )


def _run(text: str) -> RunId:
    """Read a run's id, which becomes part of file names here.  Raises BadMessage."""
    if not is_run(text):
        raise BadMessage(f"the coordinator calls a run {text[:40]!r}; one is called r-0001")
    return RunId(text)


def _digest(raw: bytes, what: str) -> Digest:
    if not is_digest(raw.hex()):
        raise BadMessage(f"the coordinator's {what} has {len(raw)} bytes, not the 32 of a SHA-256")
    return Digest(raw.hex())


def _instruction(reply: round_pb2.Instruction) -> Instruction:
    match reply.WhichOneof("what"):
        case "consider":
            plan = reply.consider.plan
            return Consider(_run(reply.consider.run), plan, sha256_hex(plan), reply.consider.cohort)
        case "send_model":
            return SendModel(_run(reply.send_model.run), _digest(reply.send_model.model_sha256, "model"))
        case "work":
            return _work(reply.work)
        case "secure":
            return _secure(reply.secure)
    return Idle()


def _what(kind: int) -> What:
    what = _KINDS.get(kind)
    if what is None:
        raise BadMessage(f"the coordinator asks for work of kind {kind}, which is not known here")
    return what


def _named(attempt: types_pb2.Attempt) -> Attempt:
    return Attempt(_run(attempt.run), attempt.round, attempt.attempt)


def _secure(asked: round_pb2.Secure) -> Secure:
    pins = tuple(Pin(ClientName(pin.name), _digest(pin.key_sha256, "pin")) for pin in asked.manifest)
    return Secure(
        _named(asked.attempt), _what(asked.kind), _digest(asked.plan_sha256, "plan"),
        _digest(asked.model_sha256, "model"), asked.model_bytes, asked.idle_seconds,
        pins, tuple(asked.certificates), asked.message, leg_of(asked.message),
    )  # fmt: skip


def _work(work: round_pb2.Work) -> Work:
    spec = work.spec
    return Work(
        _named(work.attempt), _what(work.kind),
        _digest(work.plan_sha256, "plan"), _digest(work.model_sha256, "model"), work.model_bytes,
        spec, sha256_hex(spec), work.idle_seconds,
    )  # fmt: skip
