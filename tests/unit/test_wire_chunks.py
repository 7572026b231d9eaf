"""Hand-written chunks are protobuf's, byte for byte, and what is not plain is left to it."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from unisono.wire.chunks import Piece, decode, encode
from unisono.wire.v1 import types_pb2

KEY = types_pb2.UploadKey(
    purpose=types_pb2.UploadKey.UPDATE,
    attempt=types_pb2.Attempt(run="r-0001", round=3, attempt=1),
    sha256=bytes(32),
    bytes=1 << 33,
)
pieces = st.builds(
    Piece,
    st.integers(0, 2**63 - 1),
    st.binary(max_size=300),
    st.sampled_from([None, KEY, types_pb2.UploadKey()]),
)


@given(pieces)
def test_protobuf_reads_what_we_write(piece: Piece) -> None:
    found = types_pb2.Chunk.FromString(encode(piece))
    assert (found.offset, found.data, found.HasField("key")) == (
        piece.offset,
        piece.data,
        piece.key is not None,
    )
    assert piece.key is None or found.key == piece.key


@given(pieces)
def test_we_read_what_protobuf_writes(piece: Piece) -> None:
    message = types_pb2.Chunk(offset=piece.offset, data=bytes(piece.data), key=piece.key).SerializeToString()
    found = decode(message)
    assert (found.offset, bytes(found.data), found.key) == (piece.offset, piece.data, piece.key)


@given(
    st.binary(max_size=40)
    | st.builds(
        lambda tag, pad, end: tag + b"\x80" * pad + end,
        st.sampled_from([b"\x08", b"\x12", b"\x12\x00\x1a"]),
        st.integers(0, 11),
        st.binary(max_size=4),
    )
)
def test_rubbish_is_read_as_protobuf_reads_it(message: bytes) -> None:
    try:
        known = types_pb2.Chunk.FromString(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            decode(message)
        return
    found = decode(message)
    assert (found.offset, bytes(found.data)) == (known.offset, known.data)
    assert (found.key is not None) == known.HasField("key")


def test_fields_out_of_order_and_repeated_are_left_to_protobuf() -> None:
    first = types_pb2.Chunk(data=b"old", key=KEY).SerializeToString()
    second = types_pb2.Chunk(offset=7, data=b"new").SerializeToString()
    assert decode(first + second) == Piece(7, b"new", KEY)


@pytest.mark.parametrize("key", [None, KEY], ids=["later", "first"])
def test_data_that_is_received_is_a_view(key: types_pb2.UploadKey | None) -> None:
    message = encode(Piece(5, b"x" * 1000, key))
    data = decode(message).data
    assert isinstance(data, memoryview)
    assert data.obj is message
    assert decode(message).key == key
