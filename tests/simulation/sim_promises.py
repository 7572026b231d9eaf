"""What the coordinator's store, its blobs and its wire have to show of what a world promises."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sim_book import Book, Place, Violation
from sim_oracle import Oracle, weights_of
from sim_task import STEP
from sim_wire import Call

from unisono.base.ids import ClientName, Digest
from unisono.server.rounds import Aggregate, RoundPublished
from unisono.wire.v1 import round_pb2, transfer_pb2, types_pb2

SUBMIT = "/unisono.wire.v1.RoundService/Submit"
NEXT = "/unisono.wire.v1.RoundService/NextInstruction"
BEGIN, UPLOAD = "/unisono.wire.v1.TransferService/Begin", "/unisono.wire.v1.TransferService/Upload"


@dataclass(kw_only=True)
class Promises(Book):
    """The book of a world of whole processes."""

    model: Callable[[Digest], bytes]
    spooled: Callable[[Place, str, Digest], bool]
    oracle: Oracle | None = None

    def look_at_model(self, fact: RoundPublished, order: Aggregate, names: tuple[ClientName, ...]) -> None:
        assert self.manifest is not None
        if self.oracle is None:
            self.oracle = Oracle(self.plan, self.manifest)
        before, numbers = self.model(order.model), [self.numbers[name] for name in names]
        wanted = self.oracle.published(order, before, numbers)
        if fact.model != wanted:
            after = self.model(fact.model)
            moved = weights_of(self.manifest, after) - weights_of(self.manifest, before)
            raise Violation(f"round {fact.round} of {names} published another model: moved {moved}")
        moved = weights_of(self.manifest, self.model(fact.model)) - weights_of(self.manifest, before)
        expected = np.zeros_like(moved)
        expected[np.array(numbers) - 1] = STEP / len(numbers)
        if np.abs(moved - expected).max() > STEP / 20:
            raise Violation(f"round {fact.round} of {names} moved {moved}")

    # what left a site

    def sent(self, site: str, method: str, raw: bytes | None) -> None:
        if raw is None:
            return
        if method == NEXT:
            asked = round_pb2.NextInstructionRequest.FromString(raw)
            if asked.HasField("said"):
                self.said(site, _place(asked.said.attempt), asked.said.message)
        if method != SUBMIT:
            return
        request = round_pb2.SubmitRequest.FromString(raw)
        if request.WhichOneof("what") == "said":
            self.said(site, _place(request.said.attempt), request.said.message)

    # what the coordinator acknowledged

    def acknowledged(self, call: Call, raw: bytes) -> None:
        """Check that what was just answered is written down."""
        match call.method:
            case m if m == SUBMIT:
                self._submitted(call.site, round_pb2.SubmitRequest.FromString(raw))
            case m if m == NEXT:
                asked = round_pb2.NextInstructionRequest.FromString(raw)
                if asked.HasField("said"):
                    self.took_word(call.site, _place(asked.said.attempt), asked.said.message)
            case m if m == BEGIN and call.reply is not None:
                if transfer_pb2.BeginReply.FromString(call.reply).complete:
                    self._took(call.site, transfer_pb2.BeginRequest.FromString(raw).key)

    def took(self, call: Call, key: types_pb2.UploadKey | None) -> None:
        """Check the answer to a whole upload."""
        if call.reply and key and transfer_pb2.UploadReply.FromString(call.reply).complete:
            self._took(call.site, key)

    def _submitted(self, site: str, request: round_pb2.SubmitRequest) -> None:
        match request.WhichOneof("what"):
            case "joined":
                self.written((site, "joined"))
            case "said":
                self.took_word(site, _place(request.said.attempt), request.said.message)

    def _took(self, site: str, key: types_pb2.UploadKey) -> None:
        if key.attempt.round:  # the initial model has none
            place, digest = _place(key.attempt), Digest(key.sha256.hex())
            self.took_update(site, place, digest, spooled=self.spooled(place, site, digest))


def _place(at: types_pb2.Attempt) -> Place:
    return at.run, at.round, at.attempt
