"""One conversation with the coordinator, under the identity of a folder.

Every question is a method that returns an `Answer`: the document as it came (for `--json`) and as read (for
people).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from unisono.base.errors import BadMessage, Error, Unreachable
from unisono.base.ids import Digest
from unisono.base.system_clock import SystemClock
from unisono.cli.output import note
from unisono.client.runtime.channel import call, open_channel, translated
from unisono.client.runtime.diagnosis import explaining
from unisono.wire.v1 import admin_pb2, enrolment_pb2, transfer_pb2, types_pb2
from unisono.wire.v1.admin_pb2_grpc import AdminServiceStub
from unisono.wire.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from unisono.wire.v1.transfer_pb2_grpc import TransferServiceStub

from . import documents, renewal
from .folder import Identity, Role, find

D = TypeVar("D", bound=documents.Document)
Q = TypeVar("Q")
P = TypeVar("P")

_SECONDS = 30.0  # for an answer to a question that fits one message


@dataclass(frozen=True, slots=True)
class Answer(Generic[D]):
    """A document as it came, and what it says."""

    raw: Mapping[str, object]
    value: D


@dataclass(frozen=True, slots=True)
class NewToken:
    """A join token, one line of text, and until when it can be used (wall seconds)."""

    token: str
    not_after: float


@contextmanager
def connect(directory: Path, roles: tuple[Role, ...] = ("admin",)) -> Iterator["AdminClient"]:
    """Open a connection as whoever `directory` says; renew an operator's certificate when it is time."""
    identity, clock = find(directory, roles), SystemClock()
    mine = renewal.read(identity.folder, identity.stem)
    pair = (identity.folder / f"{identity.stem}.pem", identity.folder / f"{identity.stem}.key")
    with (
        open_channel(mine, identity.coordinator, clock) as channel,
        explaining(identity.coordinator, mine, clock.wall(), pair),
    ):
        if identity.role == "admin":  # a client's belongs to its own process, which renews it
            _renew(identity, channel, clock.wall())
        yield AdminClient(identity, channel)


def _renew(identity: Identity, channel: grpc.Channel, now: float) -> None:
    """Renew if it is time.  What fails here does not stop the command: a third of the life is left for it."""
    stub = EnrolmentServiceStub(channel)

    def certify(csr: bytes) -> bytes:
        reply: enrolment_pb2.RenewReply = call(
            stub.Renew, enrolment_pb2.RenewRequest(tls_csr=csr), _SECONDS, identity.coordinator
        )
        return reply.tls_certificate

    try:
        renewal.renew(identity.folder, identity.stem, now, certify)
    except Unreachable:  # then nothing else can be asked either
        raise
    except (Error, OSError) as error:
        note(f"{identity.folder / identity.stem}.pem should be renewed and could not be: {error}")


class AdminClient:
    """What may be asked of the coordinator.  Raises our errors: Unreachable when there is no connection."""

    def __init__(self, identity: Identity, channel: grpc.Channel) -> None:
        self.coordinator, self.role = identity.coordinator, identity.role
        self._admin, self._transfer = AdminServiceStub(channel), TransferServiceStub(channel)

    def start_run(
        self, plan: bytes, model: Digest | None = None, from_run: str = ""
    ) -> Answer[documents.Started]:
        """Start a run of a plan given in canonical bytes."""
        request = admin_pb2.StartRunRequest(
            plan=plan, model_sha256=bytes.fromhex(model or ""), from_run=from_run
        )
        return self._ask(self._admin.StartRun, request, documents.Started)

    def stop_run(self, run: str) -> Answer[documents.Run]:
        """Stop a run now; a run that has ended stays as it is.  Return it."""
        return self._ask(self._admin.StopRun, admin_pb2.RunRequest(run=run), documents.Run)

    def show_run(self, run: str, first: int = 0, last: int = 0) -> Answer[documents.Run]:
        """Return a run ("" is the latest) with rounds from `first` to `last`, or the last ones, as fit."""
        request = admin_pb2.RunRequest(run=run, first_round=first, last_round=last)
        return self._ask(self._admin.ShowRun, request, documents.Run)

    def watch_run(self, run: str) -> Iterator[Answer[documents.Run]]:
        """Yield a run now and whenever it changes, until it ends."""
        with translated(self.coordinator):
            for reply in self._admin.WatchRun(admin_pb2.RunRequest(run=run)):
                yield _answer(reply, documents.Run)

    def list_runs(self, before: int = 0) -> Answer[documents.Runs]:
        """Return the newest runs, or those before a number, as many as fit; the newest first."""
        return self._ask(self._admin.ListRuns, admin_pb2.ListRequest(before=before), documents.Runs)

    def list_models(self, run: str, before: int = 0) -> Answer[documents.Models]:
        """Return models that are kept of a run ("" is the latest): the last ones (before a round), as fit."""
        request = admin_pb2.RunRequest(run=run, before=before)
        return self._ask(self._admin.ListModels, request, documents.Models)

    def list_clients(self) -> Answer[documents.Clients]:
        """Return everyone who has enrolled."""
        return self._ask(self._admin.ListClients, admin_pb2.ListRequest(), documents.Clients)

    def list_tokens(self) -> Answer[documents.Tokens]:
        """Return the tokens that can still be used."""
        return self._ask(self._admin.ListTokens, admin_pb2.ListRequest(), documents.Tokens)

    def create_token(self, name: str, ttl_seconds: float, uses: int) -> NewToken:
        """Make a join token; with more than one use, `name` is the prefix of its clients' names."""
        request = admin_pb2.CreateTokenRequest(name=name, ttl_seconds=ttl_seconds, uses=uses)
        reply: admin_pb2.CreateTokenReply = self._call(self._admin.CreateToken, request)
        return NewToken(reply.token, reply.not_after)

    def revoke(self, name: str, reason: str) -> Mapping[str, object]:
        """Refuse every further call of a client."""
        return _raw(self._call(self._admin.Revoke, admin_pb2.RevokeRequest(name=name, reason=reason)))

    def revoke_operator(self, name: str, reason: str, *, force: bool) -> Mapping[str, object]:
        """Refuse every certificate issued to an operator so far."""
        request = admin_pb2.RevokeOperatorRequest(name=name, reason=reason, force=force)
        return _raw(self._call(self._admin.RevokeOperator, request))

    def check_plan(self, plan: bytes) -> Answer[documents.PlanCheck]:
        """Ask which connected clients would take part."""
        return self._ask(self._admin.CheckPlan, admin_pb2.CheckPlanRequest(plan=plan), documents.PlanCheck)

    def health(self) -> Answer[documents.Health]:
        """Ask how the coordinator is."""
        return self._ask(self._admin.Health, admin_pb2.ListRequest(), documents.Health)

    def begin(self, sha256: Digest, size: int) -> tuple[int, bool]:
        """Ask how much of a model the coordinator has."""
        request = transfer_pb2.BeginRequest(key=_model_key(sha256, size))
        reply: transfer_pb2.BeginReply = self._call(self._transfer.Begin, request)
        return reply.offset, reply.complete

    def upload(self, sha256: Digest, size: int, offset: int, chunks: Iterator[bytes]) -> tuple[int, bool]:
        """Send a model from `offset` on; return what the coordinator has then."""
        with translated(self.coordinator):
            reply = self._transfer.Upload(_messages(_model_key(sha256, size), offset, chunks))
        return reply.offset, reply.complete

    def download(self, sha256: Digest, offset: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a blob from `offset` on.  Raises BadMessage at a gap."""
        request = transfer_pb2.DownloadRequest(sha256=bytes.fromhex(sha256), offset=offset)
        with translated(self.coordinator):
            for chunk in self._transfer.Download(request):
                if chunk.offset != offset:
                    raise BadMessage(f"the coordinator sent byte {chunk.offset} where byte {offset} was next")
                data = chunk.data  # one read: each copies
                yield offset, data
                offset += len(data)

    def _call(self, method: "grpc.UnaryUnaryMultiCallable[Q, P]", request: Q) -> P:
        return call(method, request, _SECONDS, self.coordinator)

    def _ask(
        self, method: "grpc.UnaryUnaryMultiCallable[Q, admin_pb2.Document]", request: Q, kind: type[D]
    ) -> Answer[D]:
        return _answer(self._call(method, request), kind)


def _model_key(sha256: Digest, size: int) -> types_pb2.UploadKey:
    return types_pb2.UploadKey(
        purpose=types_pb2.UploadKey.Purpose.MODEL, sha256=bytes.fromhex(sha256), bytes=size
    )


def _messages(key: types_pb2.UploadKey, offset: int, chunks: Iterator[bytes]) -> Iterator[types_pb2.Chunk]:
    first: types_pb2.UploadKey | None = key
    for data in chunks:
        yield types_pb2.Chunk(offset=offset, data=data, key=first)
        first, offset = None, offset + len(data)


def _answer(reply: admin_pb2.Document, kind: type[D]) -> Answer[D]:
    return Answer(_raw(reply), documents.read(reply.json, kind))


def _raw(reply: admin_pb2.Document) -> Mapping[str, object]:
    try:
        document = json.loads(reply.json)
    except ValueError as error:
        raise BadMessage("the coordinator's answer is not JSON") from error
    if not isinstance(document, dict):
        raise BadMessage("the coordinator's answer is not a JSON object")
    return document
