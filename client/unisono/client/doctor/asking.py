"""Questions to a coordinator that have no consequences, over gRPC as it is used every day."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from unisono.base.clock import Clock
from unisono.base.errors import BadMessage, Error
from unisono.client.runtime.channel import Credentials, call, open_channel
from unisono.client.runtime.link import SOFTWARE, Capabilities
from unisono.client.runtime.status import printable
from unisono.probe import Finding, clock_of, failure, ok
from unisono.wire.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
    round_pb2,
    round_pb2_grpc,
)

SECONDS = 10.0  # for an answer


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says: in words, and what the coordinator's clock showed."""

    words: str
    wall: float


Question = Callable[[grpc.Channel, str], Told]


def answered(question: Question, mine: Credentials, address: str, clock: Clock) -> Iterator[Finding]:
    """Ask, and compare the clocks."""
    try:
        with open_channel(mine, address, clock) as channel:
            told = question(channel, address)
    except Error as error:
        first, *rest = str(error).splitlines() or [error.code]
        advice = "; ".join(line.strip() for line in rest) or "ask the operator of the federation"
        yield failure("coordinator", first, advice, type(error))
        return
    yield ok("coordinator", told.words)
    yield clock_of(clock.wall(), told.wall)


def as_site(can: Capabilities) -> Question:
    """Return a Hello that begins no session."""

    def ask(channel: grpc.Channel, address: str) -> Told:
        low, high = can.protocol
        request = round_pb2.HelloRequest(
            software=SOFTWARE, protocol_min=low, protocol_max=high, tasks=can.tasks, only_asking=True,
            protections=can.protections, strategies=can.strategies, codecs=can.codecs,
        )  # fmt: skip
        reply = call(round_pb2_grpc.RoundServiceStub(channel).Hello, request, SECONDS, address)
        words = (
            f'knows {printable(reply.name)} in "{printable(reply.federation)}", version '
            f"{printable(reply.software)}, protocol {reply.protocol}, "
            f"{reply.clients_online} of {reply.clients_enrolled} clients online"
        )
        return Told(words, reply.wall)

    return ask


def as_operator(channel: grpc.Channel, address: str) -> Told:
    """Ask for the coordinator's health."""
    reply = call(admin_pb2_grpc.AdminServiceStub(channel).Health, admin_pb2.ListRequest(), SECONDS, address)
    try:
        found = json.loads(reply.json)
        name, status, software = (printable(str(found[k])) for k in ("federation", "status", "software"))
        return Told(f'"{name}" is {status}, version {software}', float(found["wall"]))
    except (ValueError, KeyError, TypeError):
        raise BadMessage("the coordinator's answer has no federation, status, software and wall") from None


def with_token(channel: grpc.Channel, address: str) -> Told:
    """Ask whether a token can be used; it is not."""
    request = enrolment_pb2.EnrolRequest(software=SOFTWARE, only_asking=True)
    reply = call(enrolment_pb2_grpc.EnrolmentServiceStub(channel).Enrol, request, SECONDS, address)
    return Told(f'would let {printable(reply.name)} into "{printable(reply.federation)}"', reply.wall)
