"""What comes over the wire: chunks, the coordinator's messages as a client reads them, statuses as words."""

from collections.abc import Iterator
from typing import Any

from fuzz_target import Target, refused, same
from google.protobuf.message import DecodeError

from unisono.base.errors import BadMessage, Error
from unisono.client.runtime import link
from unisono.client.runtime.status import error_named, printable, reason_of
from unisono.server.services.words import run_of
from unisono.wire import chunks
from unisono.wire.v1 import round_pb2, types_pb2

AT = types_pb2.Attempt(run="r-0001", round=2, attempt=1)
DIGEST = bytes(range(32))


def _chunk(data: bytes) -> None:
    """Our reader against protobuf's: the same chunk, or both refuse."""
    try:
        theirs = types_pb2.Chunk.FromString(data)
    except DecodeError:
        theirs = None
    try:
        ours = chunks.decode(data)
    except DecodeError:
        ours = None
    if theirs is None or ours is None:
        same(ours is None, theirs is None)
        return
    key = ours.key.SerializeToString() if ours.key is not None else None
    wanted = theirs.key.SerializeToString() if theirs.HasField("key") else None
    same((ours.offset, bytes(ours.data), key), (theirs.offset, theirs.data, wanted))
    again = chunks.decode(chunks.encode(ours))
    same((again.offset, bytes(again.data)), (ours.offset, bytes(ours.data)))


def _chunk_seeds() -> Iterator[bytes]:
    key = types_pb2.UploadKey(purpose=types_pb2.UploadKey.UPDATE, attempt=AT, sha256=DIGEST, bytes=10)
    yield types_pb2.Chunk(offset=0, data=b"0123456789", key=key).SerializeToString()
    yield types_pb2.Chunk(offset=1 << 40, data=b"x" * 300).SerializeToString()


def _instruction(data: bytes) -> None:
    """What a client does with a coordinator's answer, up to its session."""
    try:
        reply = round_pb2.Instruction.FromString(data)
    except DecodeError:
        return  # gRPC ends the call
    link._instruction(reply)
    if reply.HasField("last"):
        link._run(reply.last.run)


def _instruction_seeds() -> Iterator[bytes]:
    pins = [round_pb2.Pin(name="hospital-a", key_sha256=DIGEST)]
    common: dict[str, Any] = {
        "plan_sha256": DIGEST,
        "model_sha256": DIGEST,
        "model_bytes": 100,
        "idle_seconds": 60.0,
    }
    yield round_pb2.Instruction(
        cursor=1, consider=round_pb2.Consider(run="r-0001", plan=b"{}", cohort=3)
    ).SerializeToString()
    yield round_pb2.Instruction(
        cursor=2, send_model=round_pb2.SendModel(run="r-0001", model_sha256=DIGEST)
    ).SerializeToString()
    yield round_pb2.Instruction(
        cursor=3, work=round_pb2.Work(attempt=AT, kind=round_pb2.Work.TRAIN, spec=b"{}", **common)
    ).SerializeToString()
    yield round_pb2.Instruction(
        cursor=4, secure=round_pb2.Secure(attempt=AT, kind=round_pb2.Work.TRAIN, manifest=pins, **common)
    ).SerializeToString()


def _words(data: bytes) -> None:
    """What a peer says goes to a terminal: never a control character, whatever it sends."""
    text = data.decode("utf-8", "replace")
    code, _, words = text.partition(" ")
    refused(error_named(code, words[:2000]) if words else error_named(code, "x"))
    assert printable(text).replace("\n", "").isprintable() or not text
    assert reason_of(text)
    try:
        run_of(text)
    except BadMessage as error:
        refused(error)


def _word_seeds() -> Iterator[bytes]:
    yield b"refused no such thing \x1b[2J"
    yield b"unreachable x"
    yield b"r-0001"


TARGETS = (
    Target("chunk", _chunk, _chunk_seeds, (BadMessage,), 1024),
    Target("instruction", _instruction, _instruction_seeds, (BadMessage,), 2048),
    Target("words", _words, _word_seeds, (Error,), 512),
)
