"""A client's way through rounds, on the wire."""

from importlib.metadata import version

from unisono.base.errors import BadConfiguration, BadMessage, Refused
from unisono.base.hours import Hours
from unisono.base.ids import ClientName, Digest
from unisono.server.rounds import TaskFailed
from unisono.server.runtime.clients import Clients
from unisono.server.runtime.hall import Hall
from unisono.server.runtime.instructions import Consider, Instruction, Outcome, Secure, SendModel, Work
from unisono.server.runtime.presence import Greeting
from unisono.server.runtime.receipts import MOST, Nothing, Told
from unisono.wire.v1 import round_pb2 as pb
from unisono.wire.v1 import round_pb2_grpc
from unisono.wire.v1 import types_pb2 as types

from .guard import Caller, Context, Guard
from .words import printable, run_of

MAX_NAMES = 256
SOFTWARE = version("unisono")  # read once: it costs a millisecond, and everybody says hello at once
STAGES = {number: name.lower() for name, number in pb.Progress.Stage.items() if number}  # others: of N+1


class RoundService(round_pb2_grpc.RoundServiceServicer):
    """Hello, what next, and what was done."""

    def __init__(self, hall: Hall, clients: Clients, guard: Guard, protocols: tuple[int, int]) -> None:
        self._hall, self._clients, self._guard, self._protocols = hall, clients, guard, protocols

    async def Hello(self, request: pb.HelloRequest, context: Context) -> pb.HelloReply:  # noqa: N802
        async def handle(caller: Caller) -> pb.HelloReply:
            protocol = common_protocol(self._protocols, (request.protocol_min, request.protocol_max))
            names = (*request.tasks, *request.protections, *request.strategies, *request.codecs)
            if len(names) > MAX_NAMES or any(printable(name, 128) != name for name in names):
                raise BadMessage(
                    f"a hello with {len(names)} names; at most {MAX_NAMES} of 128 printable characters"
                )
            if request.only_asking:
                return self._welcome(caller.name, protocol)
            await self._clients.hello(
                ClientName(caller.name),
                Greeting(
                    software=printable(request.software, 64),
                    protocol=protocol,
                    tasks=frozenset(request.tasks),
                    protections=frozenset(request.protections),
                    strategies=frozenset(request.strategies),
                    upload_limit=float(request.network.upload_limit),
                    hours=_hours(request.network.hours),
                ),
            )
            return self._welcome(caller.name, protocol)

        return await self._guard.unary(context, handle)

    async def NextInstruction(  # noqa: N802
        self, request: pb.NextInstructionRequest, context: Context
    ) -> pb.Instruction:
        async def handle(caller: Caller) -> pb.Instruction:
            if request.HasField("said"):
                await self._said(ClientName(caller.name), request.said)
            renew = self._hall.ledger.renewal_due(caller.peer, self._hall.clock.wall())
            due = [(run_of(sent.run), sent.round) for sent in request.receipts_due[:MOST]]
            found = await self._clients.next_instruction(
                ClientName(caller.name), request.cursor, request.wait_seconds, renew, due
            )
            caller.recheck()
            return instruction(found)

        return await self._guard.unary(context, handle)

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitReply:  # noqa: N802
        async def handle(caller: Caller) -> pb.SubmitReply:
            await self._submit(ClientName(caller.name), request)
            return pb.SubmitReply()

        return await self._guard.unary(context, handle)

    async def _submit(self, client: ClientName, request: pb.SubmitRequest) -> None:
        match request.WhichOneof("what"):
            case "joined":
                said = request.joined
                model = Digest(said.model_sha256.hex()) if said.model_sha256 else None
                await self._clients.joined(client, run_of(said.run), said.manifest, model)
            case "declined":
                no = request.declined
                await self._clients.declined(
                    client, run_of(no.run), printable(no.code, 40), printable(no.reason, 400)
                )
            case "looking":
                await self._clients.looking(client, run_of(request.looking.run))
            case "progress":
                at, moved = request.progress.attempt, request.progress
                stage = STAGES.get(moved.stage, "working")
                attempt = (run_of(at.run), at.round, at.attempt)
                self._clients.progress(client, attempt, (stage, moved.done, moved.total))
            case "task_failed":
                at, bad = request.task_failed.attempt, request.task_failed
                code, text = printable(bad.code, 40), printable(bad.text, 2000)
                await self._clients.task_failed(
                    client, TaskFailed(client, at.round, at.attempt, code, text), run_of(at.run)
                )
            case "said":
                await self._said(client, request.said)
            case "leaving":
                await self._clients.leaving(client)
            case _:
                raise BadMessage("a Submit that says nothing this coordinator knows")

    async def _said(self, client: ClientName, said: pb.Said) -> None:
        at = said.attempt
        await self._clients.said(client, (run_of(at.run), at.round, at.attempt), said.message)

    def _welcome(self, name: str, protocol: int) -> pb.HelloReply:
        online, enrolled, number = self._hall.census(ClientName(name))
        return pb.HelloReply(
            software=SOFTWARE,
            protocol=protocol,
            federation=self._hall.authority.federation,
            name=name,
            number=number,
            sealing_certificate=self._hall.sealing_certificate,
            wall=self._hall.clock.wall(),
            clients_online=online,
            clients_enrolled=enrolled,
            long_poll_seconds=self._hall.config.long_poll_seconds,
            receipts_certificate=self._hall.receipts.certificate,
        )


def common_protocol(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """Return the highest version that both sides speak.  Raises Refused, naming both ranges."""
    best = min(ours[1], theirs[1])
    if best < max(ours[0], theirs[0]):
        raise Refused(
            f"no common protocol: the coordinator speaks versions {ours[0]} to {ours[1]}, "
            f"the client {theirs[0]} to {theirs[1]}; update the older of the two"
        )
    return best


def _hours(text: str) -> Hours | None:
    try:
        return Hours.parse(text) if text else None
    except BadConfiguration as error:
        raise BadMessage(f"the hours of a site's network: {error}") from None


def instruction(found: Instruction) -> pb.Instruction:
    """Write an instruction as its message."""
    message = pb.Instruction(cursor=found.cursor, renew=found.renew, last=_outcome(found.last))
    message.receipts.extend(_receipt(told) for told in found.receipts)
    match found.what:
        case Consider(run, plan, cohort):
            message.consider.CopyFrom(pb.Consider(run=run, plan=plan, cohort=cohort))
        case SendModel(run, model):
            message.send_model.CopyFrom(pb.SendModel(run=run, model_sha256=bytes.fromhex(model)))
        case Work() as work:
            message.work.CopyFrom(_work(work))
        case Secure() as secure:
            message.secure.CopyFrom(_secure(secure))
        case None:
            message.idle.SetInParent()
    return message


def _work(work: Work) -> pb.Work:
    return pb.Work(
        attempt=types.Attempt(run=work.run, round=work.round, attempt=work.attempt),
        kind=pb.Work.TRAIN if work.what == "train" else pb.Work.EVALUATE,
        plan_sha256=bytes.fromhex(work.plan),
        model_sha256=bytes.fromhex(work.model),
        model_bytes=work.model_bytes,
        spec=work.spec,
        idle_seconds=work.idle_seconds,
    )


def _secure(secure: Secure) -> pb.Secure:
    return pb.Secure(
        attempt=types.Attempt(run=secure.run, round=secure.round, attempt=secure.attempt),
        kind=pb.Work.TRAIN if secure.what == "train" else pb.Work.EVALUATE,
        plan_sha256=bytes.fromhex(secure.plan),
        model_sha256=bytes.fromhex(secure.model),
        model_bytes=secure.model_bytes,
        idle_seconds=secure.idle_seconds,
        manifest=[pb.Pin(name=name, key_sha256=bytes.fromhex(key)) for name, key in secure.manifest],
        certificates=secure.certificates,
        message=secure.message,
    )


def _receipt(told: Told) -> pb.Receipt:
    if isinstance(told, Nothing):
        return pb.Receipt(run=told.run, round=told.round, reason=told.reason)
    published, counted = told.published, told.counted
    return pb.Receipt(
        run=published.run,
        round=published.round,
        attempt=published.attempt,
        kind=pb.Work.TRAIN if published.what == "train" else pb.Work.EVALUATE,
        count=published.count,
        root=bytes.fromhex(published.root),
        model_sha256=bytes.fromhex(published.model),
        audit_sha256=bytes.fromhex(published.audit),
        wall=published.wall,
        signature=bytes.fromhex(told.signature),
        update_sha256=bytes.fromhex(counted.sha256),
        index=counted.index,
        path=[bytes.fromhex(step) for step in counted.path],
    )


def _outcome(last: Outcome | None) -> pb.Outcome | None:
    if last is None:
        return None
    return pb.Outcome(
        run=last.run,
        round=last.round,
        state=last.state,
        reason=last.reason,
        counted=last.counted,
        survivors=last.survivors,
        model_sha256=bytes.fromhex(last.model or ""),
    )
