"""What operators do, on the wire.  Documents travel as JSON: one contract for terminal, page and script."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from unisono.base.errors import BadMessage
from unisono.base.ids import ClientName, Digest, RunId
from unisono.server.runtime.operators import Operators
from unisono.server.store import Window
from unisono.wire.v1 import admin_pb2 as pb
from unisono.wire.v1 import admin_pb2_grpc

from .guard import Caller, Context, Guard
from .words import printable, run_of

MAX_PLAN = 1 << 20


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """For admin certificates; models may be listed by clients too."""

    def __init__(self, operators: Operators, admins: Guard, anybody: Guard) -> None:
        self._operators, self._admins, self._anybody = operators, admins, anybody

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.Document:  # noqa: N802
        async def handle(caller: Caller) -> pb.Document:
            model = Digest(request.model_sha256.hex()) if request.model_sha256 else None
            source = run_of(request.from_run) if request.from_run else None
            run = await self._operators.start_run(_plan(request.plan), model, source, caller.name)
            return document({"id": run})

        return await self._admins.unary(context, handle)

    async def StopRun(self, request: pb.RunRequest, context: Context) -> pb.Document:  # noqa: N802
        async def handle(caller: Caller) -> pb.Document:
            return document(await self._operators.stop_run(_run(request.run), caller.name))

        return await self._admins.unary(context, handle)

    async def ShowRun(self, request: pb.RunRequest, context: Context) -> pb.Document:  # noqa: N802
        def ask() -> Awaitable[Mapping[str, object]]:
            window = Window(request.first_round, request.last_round)
            return self._operators.show(_run(request.run), window)

        return await self._ask(context, ask)

    async def WatchRun(self, request: pb.RunRequest, context: Context) -> AsyncIterator[pb.Document]:  # noqa: N802
        async def handle(caller: Caller) -> AsyncIterator[pb.Document]:
            async for found in self._operators.watch(_run(request.run)):
                yield document(found)

        async for reply in self._admins.stream(context, handle):
            yield reply

    async def ListRuns(self, request: pb.ListRequest, context: Context) -> pb.Document:  # noqa: N802
        return await self._ask(context, lambda: self._operators.runs(request.before))

    async def ListModels(self, request: pb.RunRequest, context: Context) -> pb.Document:  # noqa: N802
        async def handle(caller: Caller) -> pb.Document:
            return document(await self._operators.models(_run(request.run), request.before))

        return await self._anybody.unary(context, handle)

    async def ListClients(self, request: pb.ListRequest, context: Context) -> pb.Document:  # noqa: N802
        return await self._ask(context, self._operators.clients)

    async def ListTokens(self, request: pb.ListRequest, context: Context) -> pb.Document:  # noqa: N802
        return await self._ask(context, self._operators.tokens)

    async def CreateToken(  # noqa: N802
        self, request: pb.CreateTokenRequest, context: Context
    ) -> pb.CreateTokenReply:
        async def handle(caller: Caller) -> pb.CreateTokenReply:
            text, not_after = await self._operators.create_token(
                request.name, request.ttl_seconds, max(1, request.uses), caller.name
            )
            return pb.CreateTokenReply(token=text, not_after=not_after)

        return await self._admins.unary(context, handle)

    async def Revoke(self, request: pb.RevokeRequest, context: Context) -> pb.Document:  # noqa: N802
        async def handle(caller: Caller) -> pb.Document:
            name = ClientName(request.name)
            return document(await self._operators.revoke(name, request.reason[:200], caller.name))

        return await self._admins.unary(context, handle)

    async def RevokeOperator(  # noqa: N802
        self, request: pb.RevokeOperatorRequest, context: Context
    ) -> pb.Document:
        async def handle(caller: Caller) -> pb.Document:
            reason = printable(request.reason, 200)
            return document(
                await self._operators.revoke_operator(request.name, reason, caller.name, force=request.force)
            )

        return await self._admins.unary(context, handle)

    async def CheckPlan(self, request: pb.CheckPlanRequest, context: Context) -> pb.Document:  # noqa: N802
        return await self._ask(context, lambda: self._operators.check_plan(_plan(request.plan)))

    async def Health(self, request: pb.ListRequest, context: Context) -> pb.Document:  # noqa: N802
        return await self._ask(context, self._operators.health)

    async def _ask(self, context: Context, ask: Callable[[], Awaitable[Mapping[str, object]]]) -> pb.Document:
        async def handle(caller: Caller) -> pb.Document:
            return document(await ask())

        return await self._admins.unary(context, handle)


def document(found: Mapping[str, object]) -> pb.Document:
    """Write a document."""
    return pb.Document(json=json.dumps(found, separators=(",", ":")).encode())


def _run(text: str) -> RunId:
    """Read which run is meant; nothing is the latest."""
    return run_of(text) if text else RunId("")


def _plan(data: bytes) -> bytes:
    if len(data) > MAX_PLAN:
        raise BadMessage(f"a plan of {len(data)} bytes; at most {MAX_PLAN} are allowed")
    return data
