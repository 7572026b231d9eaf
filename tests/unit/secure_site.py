"""A site of secure aggregation over real gRPC, which may be honest or not: what a client's runtime does."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from federation_world import MANIFEST, Caller

from unisono.base.ids import ClientName, Digest, RunId
from unisono.codec import Encoder, Rotation, Spec, encode_head, rotation_stream
from unisono.crypto import sha256, system_entropy
from unisono.plan import Plan, digest
from unisono.secagg import client as c
from unisono.secagg.shared.laying import spec_of
from unisono.secagg.shared.masks import Mask
from unisono.secagg.shared.messages import Closing, Deal, Quorum, Survivors
from unisono.secagg.shared.reading import read_certificate, read_down
from unisono.secagg.shared.roster import Attempt, Pin, Roster, manifest_digest
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import types_pb2 as types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from unisono.secagg.shared import spec as protocol

SECURE = Plan.model_validate(
    {
        "task": "x",
        "cohort": {"size": 4, "wait_seconds": 20.0},
        "rounds": {"count": 2, "idle_seconds": 20.0},
        "protection": {"mode": "secagg", "max_colluding": 0},
    }
)


@dataclass
class SecureSite:
    """One site: `disk` is what survives it."""

    caller: Caller
    change: Sequence[float]
    plan: Plan = SECURE
    disk: bytes = b""
    cursor: int = 0
    releases: list[c.Release] = field(default_factory=list)
    masked: bytes = b""
    turns: int = 0

    @property
    def name(self) -> ClientName:
        return ClientName(self.caller.name)

    @property
    def state(self) -> c.State:
        return c.decode_state(self.disk)

    def save(self, data: bytes) -> None:
        self.disk = data

    def move(self, move: c.Move[c.State]) -> bytes:
        message = move.after(self.save)[1]
        release = c.release_of(self.state)
        if release is not None and release not in self.releases:
            self.releases.append(release)
        return message or b""

    async def told(self) -> rounds.Secure:
        """Ask until there is something new to do."""
        while True:
            found: rounds.Instruction = await self.caller.round.NextInstruction(
                rounds.NextInstructionRequest(cursor=self.cursor, wait_seconds=10)
            )
            if found.WhichOneof("what") == "secure" and found.cursor != self.cursor:
                self.cursor = found.cursor
                return found.secure
            self.cursor = found.cursor

    async def say(self, told: rounds.Secure, message: bytes) -> None:
        """Say it alone and with a question, by turns: a coordinator hears both alike."""
        said = rounds.Said(attempt=told.attempt, message=message)
        self.turns += 1
        if self.turns % 2:
            await self.caller.round.Submit(rounds.SubmitRequest(said=said))
        else:
            await self.caller.round.NextInstruction(
                rounds.NextInstructionRequest(cursor=self.cursor, wait_seconds=0, said=said)
            )

    async def leave(self) -> None:
        await self.caller.round.Submit(rounds.SubmitRequest(leaving=rounds.Leaving()))

    async def step(self) -> str:
        """Do the next thing that this site is told; return its kind."""
        told = await self.told()
        answer = await self.answer(told)
        await self.say(told, answer)
        return type(read_down(told.message)).__name__ if told.message else "Invitation"

    async def answer(self, told: rounds.Secure) -> bytes:
        """Return what an honest client says."""
        key = self.caller.signing
        assert key is not None
        if not told.message:
            return self.move(c.begin(self.setup(told), key, system_entropy))
        match read_down(told.message):
            case Roster() as roster:
                if isinstance(self.state, c.Advertised):
                    self.move(self.state.receive_roster(roster, lambda n: self.spec(told, roster, n)))
                model = Digest(told.model_sha256.hex())
                return self.move(self.state.share(model, key, system_entropy))
            case Deal() as deal:
                return await self.upload(told, deal)
            case Survivors() as survivors:
                return self.move(self.state.receive_survivors(survivors, key))
            case Quorum() as quorum:
                return self.move(self.state.receive_quorum(quorum))
            case Closing() as closing:
                return self.move(self.state.abandon(closing, key))

    def setup(self, told: rounds.Secure) -> c.Setup:
        pins = tuple(Pin(ClientName(pin.name), Digest(pin.key_sha256.hex())) for pin in told.manifest)
        at = told.attempt
        attempt = Attempt(RunId(at.run), at.round, at.attempt, digest(self.plan), manifest_digest(pins))
        shown = [read_certificate(data) for data in told.certificates]
        by_ctx = {found.ctx: found for found in shown}
        model = Digest(told.model_sha256.hex())
        only = c.check_releases(self.releases, by_ctx, attempt, model)
        return c.Setup(self.name, attempt, pins, 0, 0, only, model)

    def spec(self, told: rounds.Secure, roster: Roster, n: int) -> protocol.Spec:
        proposed = Spec.decode(roster.spec.codec)
        what: Literal["train", "evaluate"] = "train" if told.kind == rounds.Work.TRAIN else "evaluate"
        bounds = tuple(part.bound for part in proposed.parts)
        return spec_of(self.plan, MANIFEST, what, told.attempt.round, n, len(told.manifest), bounds)

    def vector(self, told: rounds.Secure, spec: Spec) -> NDArray[np.uint64]:
        """Return the quantised vector: this site's change, two examples of loss 1."""
        words = np.zeros(spec.words, np.uint64)
        for part in spec.parts:
            x = np.zeros(spec.coordinates(part), np.float32)
            x[: part.length] = self.change
            signs = rotation_stream(self.plan.seed, told.attempt.round, digest(self.plan))
            Rotation(signs, part.length, spec.start(part.name)).forward(x)
            half = np.full(x.size, 1 << 31, np.uint32)
            Encoder(spec, part).encode(x, half, words[: spec.head_offset])
        head = {"one": 1.0, "weight": 1.0, "loss.sum": 2.0, "loss.count": 2.0}
        words[spec.head_offset :] = encode_head(head, spec)
        return words

    async def upload(self, told: rounds.Secure, deal: Deal) -> bytes:
        """Mask, send, sign."""
        key = self.caller.signing
        assert key is not None
        self.move(self.state.receive_deal(deal))
        state = self.state
        assert isinstance(state, c.Ready | c.Committed | c.Uploaded)
        words = self.vector(told, Spec.decode(state.frame.spec.codec))
        self.move(state.commit(sha256(words), words.nbytes))
        committed = self.state
        assert isinstance(committed, c.Committed | c.Uploaded)
        scratch = np.empty(1 << 10, np.uint64)
        for stream in committed.streams:
            mask = Mask(stream.key, scratch)
            (mask.add if stream.add else mask.subtract)(words, 0)
        self.masked = words.tobytes()
        assert await self.caller.send(types.UploadKey.UPDATE, told.attempt, self.masked)
        return self.move(self.state.uploaded(sha256(self.masked), key))
