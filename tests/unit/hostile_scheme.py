"""A coordinator that lies to one client, over real mutual TLS: the client is the real one, with its trainer.

The coordinator is the real one, too, and honest to four sites (`secure_site`); between it and the victim's
calls stands a `Scheme`, which hears everything that anybody says and changes what the victim is told.  It
holds the signing keys of those four: they may all conspire with it, as far as a lie needs that.
"""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from unisono.base.ids import ClientName, Digest, RunId
from unisono.client.policy import Policy
from unisono.plan import Plan
from unisono.secagg.shared.encoding import kind_of
from unisono.secagg.shared.messages import Share, Survivor, Upload
from unisono.secagg.shared.roster import Attempt, Pin, Roster, context, manifest_digest
from unisono.server.services.rounds import RoundService
from unisono.server.services.transfer import TransferService
from unisono.wire.chunks import Piece
from unisono.wire.v1 import round_pb2 as pb
from unisono.wire.v1 import transfer_pb2 as tpb

if TYPE_CHECKING:
    from unisono.crypto import SigningKey
    from unisono.server.services.guard import Context

VICTIM = ClientName("v")  # the last of the roster: number 5
HONEST = ("a", "b", "c", "d")
ALL = (*HONEST, VICTIM)
CHANGES = ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 2.0])
# n = 5, c = 1: t = 4, m = 4, an abandon certificate has 3 signatures; the others finish without the victim.
PLAN = Plan.model_validate(
    {
        "task": "x",
        "cohort": {"size": 5, "wait_seconds": 20.0, "min_survivors": 4},
        "rounds": {"count": 100, "idle_seconds": 20.0},
        "protection": {"mode": "secagg", "max_colluding": 1},
    }
)
POLICY = Policy(min_cohort=4, max_colluding=1)


@dataclass(frozen=True, slots=True)
class Heard:
    """What somebody said, in which attempt: a leg's kind, "bytes", "failed", "joined" or "declined"."""

    client: str
    what: str
    round: int
    attempt: int
    message: bytes = b""
    code: str = ""


Tell = Callable[["Scheme", pb.Secure], pb.Secure | None]  # None: not yet


@dataclass(frozen=True, slots=True)
class Lie:
    """What the victim is told in a round in place of the truth: in a leg, or step after step of its words.

    Of steps, each is told once the victim has said the first of the pair; then it learns no truth until it
    refuses.
    """

    tell: Tell | None = None
    leg: str = ""  # "*": every one
    steps: tuple[tuple[str, Tell], ...] = ()
    round: int = 1
    attempt: int = 1
    swallow: tuple[str, ...] = ()  # kinds that the honest half is not to see from the victim


@dataclass
class Scheme:
    """The hostile half."""

    keys: dict[str, SigningKey] = field(default_factory=dict)
    lie: Lie | None = None
    step: int = 0  # of the lie's steps
    lies: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    hold: bool = False  # uploads of the victim do not begin
    heard: list[Heard] = field(default_factory=list)
    shown: dict[tuple[int, int, str], pb.Secure] = field(default_factory=dict)  # the truth, to the victim
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    hook: Callable[[pb.Instruction], None] | None = None  # changes whatever the victim is told
    other: pb.Secure | None = None  # what one of the others was told last
    forced: pb.Secure | None = None  # told at once, once

    def left(self, round_: int, attempt: int = 1, client: str = VICTIM) -> list[str]:
        """Return what left a site in an attempt; the same thing said again is one thing."""
        found = [h for h in self.heard if (h.client, h.round, h.attempt) == (client, round_, attempt)]
        return list(dict.fromkeys(h.what for h in found if h.what not in {"failed", "declined"}))

    def codes(self) -> list[str]:
        """Return the codes with which the victim refused."""
        return [h.code for h in self.heard if h.client == VICTIM and h.code]

    def words(self) -> str:
        """Return what the victim said, for a test that failed."""
        return ", ".join(f"{h.round}.{h.attempt} {h.what} {h.code}" for h in self.heard if h.client == VICTIM)

    def said(self, client: str, kind: str, round_: int, attempt: int = 1) -> bytes | None:
        """Return the last message of a kind."""
        at = (client, kind, round_, attempt)
        found = [h.message for h in self.heard if (h.client, h.what, h.round, h.attempt) == at]
        return found[-1] if found else None

    def message(self, leg: str, round_: int = 1, attempt: int = 1) -> bytes:
        return self.shown[round_, attempt, leg].message

    def roster(self, round_: int = 1, attempt: int = 1) -> Roster:
        return Roster.decode(self.message("roster", round_, attempt))

    def context(self, round_: int = 1, attempt: int = 1) -> bytes:
        """Return the true ctx of an attempt."""
        secure = self.shown[round_, attempt, "roster"]
        roster = Roster.decode(secure.message)
        return context(attempt_of(secure), Digest(secure.model_sha256.hex()), roster)

    def shares(self, round_: int = 1) -> dict[str, Share] | None:
        """Return what the four shared; None until all have."""
        found = {name: self.said(name, "share", round_) for name in HONEST}
        return (
            {name: Share.decode(raw) for name, raw in found.items() if raw} if all(found.values()) else None
        )

    def uploads(self, round_: int = 1) -> tuple[Survivor, ...] | None:
        """Return everybody's upload statement; None until all have said it."""
        found = [self.said(name, "upload", round_) for name in ALL]
        said = [Upload.decode(raw) for raw in found if raw]
        members = tuple(Survivor(number, u.digest, u.signature) for number, u in enumerate(said, 1))
        return members if len(said) == len(ALL) else None

    # in the way

    def _due(self, secure: pb.Secure) -> Tell | None:
        """Return what is told in place of an instruction."""
        lie, at = self.lie, secure.attempt
        if lie is None or self.codes() or (at.round, at.attempt) != (lie.round, lie.attempt):
            return None
        return lie.tell if lie.leg in {"*", leg_of(secure)} else None

    def shows(self, found: pb.Instruction) -> pb.Instruction:
        """Change what the victim is told."""
        if self.hook is not None:
            self.hook(found)
        if found.WhichOneof("what") != "secure":
            return found
        at = found.secure.attempt
        truth = pb.Secure.FromString(found.secure.SerializeToString())
        self.shown[at.round, at.attempt, leg_of(truth)] = truth
        tell = self._due(truth)
        changed = tell(self, found.secure) if tell else None
        if changed is not None:
            found.secure.CopyFrom(changed)
            self._tells(changed)
        return found

    def _tells(self, secure: pb.Secure) -> None:
        """Note that a lie is told, and what had left the victim by then."""
        self.lies.append((len(self.heard), (secure.attempt.round, secure.attempt.attempt)))

    def left_since(self) -> list[str]:
        """Return what left the victim of an attempt after it was lied to about it."""
        if not self.lies:
            return []
        begin, at = self.lies[0]
        found = [h for h in self.heard[begin:] if (h.client, h.round, h.attempt) == (VICTIM, *at)]
        return [h.what for h in found if h.what != "failed"]

    async def instead(self, cursor: int) -> pb.Instruction | None:
        """Return what is told out of turn."""
        if self.forced is not None:
            found, self.forced = self.forced, None
            self._tells(found)
            return pb.Instruction(cursor=cursor, secure=found)
        lie = self.lie
        if lie is None or self.step >= len(lie.steps) or self.codes():
            return None
        after, tell = lie.steps[self.step]
        if after and self.said(VICTIM, after, lie.round, lie.attempt) is None:
            return None
        last = list(self.shown.values())[-1]
        while (changed := tell(self, pb.Secure.FromString(last.SerializeToString()))) is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        self.step += 1
        self._tells(changed)
        return pb.Instruction(cursor=cursor, secure=changed)

    def hears(self, client: str, request: pb.SubmitRequest) -> bool:
        """Note what is said; tell whether the honest half may hear it."""
        what = request.WhichOneof("what")
        if what == "said":
            at, kind = request.said.attempt, kind_of(request.said.message)
            code = "share_unreadable" if kind == "complaint" else ""
            self.heard.append(Heard(client, kind, at.round, at.attempt, request.said.message, code))
            lie = self.lie
            mine = lie and client == VICTIM and (at.round, at.attempt) == (lie.round, lie.attempt)
            return not (lie and mine and kind in lie.swallow)
        if what == "task_failed":
            at = request.task_failed.attempt
            self.heard.append(Heard(client, "failed", at.round, at.attempt, code=request.task_failed.code))
        if what in {"joined", "looking"}:
            self.heard.append(Heard(client, what, 0, 0))
        if what == "declined":
            self.heard.append(Heard(client, "declined", 0, 0, code=request.declined.code))
        return not (what == "leaving" and client == VICTIM)  # it is killed, as far as anybody knows


def attempt_of(secure: pb.Secure) -> Attempt:
    """Return an attempt as the protocol names it."""
    pins = tuple(Pin(ClientName(pin.name), Digest(pin.key_sha256.hex())) for pin in secure.manifest)
    at, plan = secure.attempt, Digest(secure.plan_sha256.hex())
    return Attempt(RunId(at.run), at.round, at.attempt, plan, manifest_digest(pins))


def leg_of(secure: pb.Secure) -> str:
    return kind_of(secure.message) if secure.message else "invitation"


class Rounds(RoundService):
    """What next, and what was done, with the scheme in the way of one client."""

    scheme: Scheme
    refused = 0  # codes heard when the victim was last told

    async def NextInstruction(  # noqa: N802
        self, request: pb.NextInstructionRequest, context: Context
    ) -> pb.Instruction:
        if request.HasField("said"):
            await self.Submit(pb.SubmitRequest(said=request.said), context)
            request.ClearField("said")
        if self._guard.caller(context).name != VICTIM:
            found = await super().NextInstruction(request, context)
            self.scheme.other = found.secure if found.WhichOneof("what") == "secure" else self.scheme.other
            return found
        instead = await self.scheme.instead(request.cursor)
        if instead is not None:
            return instead
        if len(self.scheme.codes()) > self.refused:  # the truth, which it did not get
            self.refused = len(self.scheme.codes())
            request.cursor = 0
        return self.scheme.shows(await super().NextInstruction(request, context))

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitReply:  # noqa: N802
        if not self.scheme.hears(self._guard.caller(context).name, request):
            return pb.SubmitReply()
        return await super().Submit(request, context)


class Transfers(TransferService):
    """Bytes, with the scheme in the way."""

    scheme: Scheme

    async def Begin(self, request: tpb.BeginRequest, context: Context) -> tpb.BeginReply:  # noqa: N802
        client, at = self._guard.caller(context).name, request.key.attempt
        if client == VICTIM and self.scheme.hold and at.round:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        if at.round:
            self.scheme.heard.append(Heard(client, "bytes", at.round, at.attempt))
        return await super().Begin(request, context)

    async def Download(  # noqa: N802
        self, request: tpb.DownloadRequest, context: Context
    ) -> AsyncIterator[Piece]:
        if request.sha256 in self.scheme.blobs:
            yield Piece(0, self.scheme.blobs[request.sha256])
            return
        async for piece in super().Download(request, context):
            yield piece


def crafted(secure: pb.Secure, **fields: Any) -> pb.Secure:
    """Return the instruction with other fields."""
    for name in fields:
        secure.ClearField(name)  # type: ignore[arg-type]
    secure.MergeFrom(pb.Secure(**fields))
    return secure
