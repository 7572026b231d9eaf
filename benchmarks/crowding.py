"""The crowd of `crowd.py`: enrols its guests, and, as a process, connects and polls for many of them."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc

from unisono.crypto import SigningKey, TlsKey, system_entropy
from unisono.identity import JoinToken, request
from unisono.wire.v1 import enrolment_pb2 as enrolment
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from unisono.wire.v1.round_pb2_grpc import RoundServiceStub

if TYPE_CHECKING:
    from unisono.wire.v1.round_pb2_grpc import RoundServiceAsyncStub

Reply = TypeVar("Reply")
AT_ONCE = 8  # that enrol at a time
POLL_SECONDS = 25.0
LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
HELLO = rounds.HelloRequest(
    software="crowd",
    protocol_min=1,
    protocol_max=1,
    tasks=["another"],
    protections=["sealed"],
    strategies=["fedavg"],
)


@dataclass(frozen=True, slots=True)
class Guest:
    """What one of the crowd shows: PEM."""

    ca: str
    key: str
    certificate: str

    def channel(self, port: int) -> grpc.aio.Channel:
        """Return a connection of its own."""
        shown = grpc.ssl_channel_credentials(self.ca.encode(), self.key.encode(), self.certificate.encode())
        options = (("grpc.use_local_subchannel_pool", 1),)
        return grpc.aio.secure_channel(f"localhost:{port}", shown, options=options)


@dataclass(slots=True)
class Tally:
    """What a part of the crowd has seen."""

    inside: int = 0
    outside: int = 0  # not yet, or not any more
    answers: int = 0
    put_off: int = 0
    lost: int = 0
    refused: int = 0
    last_in_seconds: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        longest = max(self.last_in_seconds, other.last_in_seconds)
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items()}
        return Tally(**sums | {"last_in_seconds": longest})


def enrolled(token: str, port: int, count: int) -> list[Guest]:
    """Enrol so many sites with a token of many uses, over one connection."""
    return asyncio.run(_enrolled(JoinToken.decode(token), port, count))


async def _enrolled(token: JoinToken, port: int, count: int) -> list[Guest]:
    ca = token.ca_pem.decode()
    bootstrap = Guest(ca, token.key.to_pem().decode(), token.certificate_pem.decode())
    places = asyncio.Semaphore(AT_ONCE)
    async with bootstrap.channel(port) as channel:
        stub = EnrolmentServiceStub(channel)

        async def one() -> Guest:
            key, signing = TlsKey.generate(), SigningKey.generate(system_entropy)
            asked = enrolment.EnrolRequest(tls_csr=request(key), signing_csr=request(signing))
            async with places:
                done = await stub.Enrol(asked, timeout=60)
            return Guest(ca, key.to_pem().decode(), done.tls_certificate.decode())

        return list(await asyncio.gather(*(one() for _ in range(count))))


@dataclass
class Crowd:
    """Many guests in one process."""

    port: int
    file: Path
    tally: Tally = field(default_factory=Tally)
    began: float = field(default_factory=time.monotonic)

    async def visit(self, guest: Guest) -> None:
        """Connect, say hello, and keep a question open; whatever happens, come again."""
        async with guest.channel(self.port) as channel:
            stub: RoundServiceAsyncStub = RoundServiceStub(channel)
            while await self.insisting(lambda: stub.Hello(HELLO, timeout=30)):
                self._in()
                await self._polls(stub)
                self.tally.inside, self.tally.outside = self.tally.inside - 1, self.tally.outside + 1

    async def _polls(self, stub: "RoundServiceAsyncStub") -> None:
        cursor = 0
        while True:
            asked = rounds.NextInstructionRequest(cursor=cursor, wait_seconds=POLL_SECONDS)
            found = await self.insisting(lambda: stub.NextInstruction(asked, timeout=POLL_SECONDS + 20))  # noqa: B023
            if found is None:
                return
            cursor, self.tally.answers = found.cursor, self.tally.answers + 1

    async def insisting(self, call: Callable[[], Awaitable[Reply]]) -> Reply | None:
        """Return the reply, after what time it takes; None if hello has to be said, or nothing helps."""
        pause = 0.2
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                asked = dict(error.trailing_metadata()).get("unisono-retry-after")
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    self.tally.put_off += 1
                    pause = max(0.2, float(asked or 1.0))
                elif error.code() in LATER:
                    self.tally.lost += 1
                    pause = min(5.0, 1.6 * pause)
                elif error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return None
                else:
                    self.tally.refused += 1
                    print(f"refused: {error.code()} {error.details()}", file=sys.stderr, flush=True)
                    await asyncio.sleep(3600)
            await asyncio.sleep(pause * random.uniform(1.0, 1.25))  # noqa: S311 - spreads them out

    def _in(self) -> None:
        self.tally.inside, self.tally.outside = self.tally.inside + 1, self.tally.outside - 1
        self.tally.last_in_seconds = round(time.monotonic() - self.began, 2)

    async def told(self) -> None:
        """Write down what was seen, again and again."""
        while True:
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(asdict(self.tally)))
            part.replace(self.file)
            await asyncio.sleep(0.2)


async def main(task: dict[str, object]) -> None:
    guests = [Guest(**found) for found in json.loads(str(task["guests"]))]
    crowd = Crowd(int(str(task["port"])), Path(str(task["tally"])), Tally(outside=len(guests)))
    loop, visits = asyncio.get_running_loop(), asyncio.gather(crowd.told(), *map(crowd.visit, guests))
    loop.add_signal_handler(signal.SIGTERM, visits.cancel)
    try:
        await visits
    except asyncio.CancelledError:
        os._exit(0)  # 500 goodbyes would only take time


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
