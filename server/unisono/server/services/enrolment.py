"""Joining and renewing."""

from unisono.base.errors import NotEnrolled
from unisono.identity import Peer
from unisono.server.runtime.enrolling import Enrolling
from unisono.server.runtime.joins import Joins
from unisono.wire.v1 import enrolment_pb2 as pb
from unisono.wire.v1 import enrolment_pb2_grpc

from .guard import Caller, Context, Guard
from .words import printable


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """The only service for bootstrap certificates."""

    def __init__(self, enrolling: Enrolling, joins: Joins, joining: Guard, enrolled: Guard) -> None:
        self._enrolling, self._joining, self._enrolled = enrolling, joining, enrolled
        self._joins = joins

    async def Enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolReply:  # noqa: N802
        async def handle(caller: Caller) -> pb.EnrolReply:
            self._joins.admit(caller.address)
            if request.only_asking:
                federation, wall = await self._enrolling.usable(caller.peer)
                return pb.EnrolReply(name=caller.name, federation=federation, wall=wall)
            done = await self._enrolling.enrol(
                caller.peer, request.tls_csr, request.signing_csr, printable(request.software, 64)
            )
            return pb.EnrolReply(
                name=done.name,
                number=done.number,
                tls_certificate=done.tls_certificate,
                signing_certificate=done.signing_certificate,
                federation=done.federation,
            )

        return await self._joining.unary(context, handle)

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewReply:  # noqa: N802
        async def handle(caller: Caller) -> pb.RenewReply:
            certificate = await self._enrolling.renew(_renewable(caller.peer), request.tls_csr)
            return pb.RenewReply(tls_certificate=certificate)

        return await self._enrolled.unary(context, handle)


def _renewable(peer: Peer) -> Peer:
    if peer.kind not in ("client", "admin"):
        raise NotEnrolled(f"a {peer.kind} certificate cannot be renewed here")
    return peer
