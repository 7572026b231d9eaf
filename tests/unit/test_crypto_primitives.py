"""Properties of the primitives: what must hold for every input, and what must be refused."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import Corrupt, Fault
from unisono.crypto import (
    SealingKey,
    Sha256,
    SigningKey,
    Stream,
    TlsKey,
    encode,
    sha256,
    sha256_hex,
    system_entropy,
    verify,
)

KEY = bytes(range(32))
ROOT = Path(__file__).resolve().parents[2]
LABEL = re.compile(r'^\w+ = b?"(unisono/[a-z-]+)/\d+"', re.MULTILINE)
FIELDS = st.lists(st.binary(max_size=20) | st.text(max_size=20) | st.integers(0, 2**64 - 1), max_size=5)


def test_labels_differ() -> None:
    """Of the whole project: each stands in one place, so that no two uses can have the same."""
    sources = [path for side in ("common", "server", "client") for path in (ROOT / side).rglob("*.py")]
    found = [label for path in sources for label in LABEL.findall(path.read_text())]
    assert len(found) == len(set(found)) >= 10


@given(FIELDS, FIELDS)
def test_no_two_lists_encode_alike(left: list[bytes | str | int], right: list[bytes | str | int]) -> None:
    def plain(fields: list[bytes | str | int]) -> list[bytes]:
        return [
            f if isinstance(f, bytes) else f.encode() if isinstance(f, str) else f.to_bytes(8, "big")
            for f in fields
        ]

    assert (encode(*left) == encode(*right)) == (plain(left) == plain(right))


@pytest.mark.parametrize("value", [-1, 2**64])
def test_an_integer_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(OverflowError):
        encode("label", value)


@given(st.integers(0, 400_000), st.integers(0, 200_000))
def test_any_chunk_of_the_stream_can_be_made_alone(offset: int, length: int) -> None:
    whole = bytearray(offset + length)
    Stream(KEY).fill(whole)
    part = bytearray(length)
    Stream(KEY, offset).fill(part)
    assert part == whole[offset:]


@given(st.lists(st.integers(0, 70_000), max_size=6))
def test_filling_in_pieces_is_filling_at_once(lengths: list[int]) -> None:
    whole, stream = bytearray(sum(lengths)), Stream(KEY, 7)
    Stream(KEY, 7).fill(whole)
    pieces = [bytearray(length) for length in lengths]
    for piece in pieces:
        stream.fill(piece)
    assert b"".join(pieces) == whole


def test_a_stream_fills_arrays_of_words_in_place() -> None:
    words = np.full((3, 1000), 7, np.uint64)
    Stream(KEY).fill(words)
    expected = bytearray(words.nbytes)
    Stream(KEY).fill(expected)
    assert words.tobytes() == expected
    Stream(KEY).fill(words[1, 4:9])  # a part: the rest stays
    assert words[1, 4:9].tobytes() == expected[:40]
    assert words[1, 9:].tobytes() == expected[8 * 1009 : 8 * 2000]


def test_a_stream_refuses_what_it_cannot_fill() -> None:
    with pytest.raises(TypeError):
        Stream(KEY).fill(np.zeros((4, 4))[:, 1])
    with pytest.raises(TypeError, match="not writable"):
        Stream(KEY).fill(bytes(16))
    with pytest.raises(Fault, match="32 bytes, not 16"):
        Stream(KEY[:16])


def test_digest_of_arrays_agrees_with_hashlib() -> None:
    array = np.arange(5000, dtype=np.float32)
    running = Sha256()
    running.update(array[:10])
    running.update(array[10:])
    assert sha256(array) == hashlib.sha256(array.tobytes()).digest()
    assert running.hexdigest() == sha256_hex(array) == sha256(array).hex()
    assert sha256(np.zeros(0)) == sha256(b"")


@pytest.mark.parametrize("kind", [SealingKey, SigningKey])
def test_raw_keys_come_back(kind: type[SealingKey] | type[SigningKey]) -> None:
    key = kind.generate(system_entropy)
    assert kind.from_bytes(key.to_bytes()).public == key.public
    assert key.public != kind.generate(system_entropy).public
    with pytest.raises(Corrupt, match="32 bytes, not 31"):
        kind.from_bytes(bytes(31))


def test_tls_keys_come_back_from_both_forms() -> None:
    key = TlsKey.generate()
    assert TlsKey.from_pem(key.to_pem()).to_bytes() == key.to_bytes()
    assert TlsKey.from_bytes(key.to_bytes()).to_bytes() == key.to_bytes()


@pytest.mark.parametrize("value", [bytes(32), b"\xff" * 32, b"short"])
def test_a_scalar_off_the_curve_is_refused(value: bytes) -> None:
    with pytest.raises(Corrupt, match="P-256"):
        TlsKey.from_bytes(value)


P384 = b"""-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDCLSfTzqPcmhBMUOCPE
-----END PRIVATE KEY-----
"""


@pytest.mark.parametrize("pem", [b"", b"no key", P384])
def test_a_pem_that_is_no_key_is_refused(pem: bytes) -> None:
    with pytest.raises(Corrupt, match="private key"):
        TlsKey.from_pem(pem)


@pytest.mark.parametrize(
    "change",
    [
        lambda public, message, signature: (public, message + b"!", signature),
        lambda public, message, signature: (public, message, signature[:-1] + b"\0"),
        lambda public, message, signature: (public, message, signature[:-1]),
        lambda public, message, signature: (bytes(31), message, signature),
        lambda public, message, signature: (SigningKey.from_bytes(KEY).public, message, signature),
    ],
    ids=["message", "signature", "short signature", "no key", "other key"],
)
def test_a_signature_of_something_else_is_refused(
    change: Callable[[bytes, bytes, bytes], tuple[bytes, bytes, bytes]],
) -> None:
    key = SigningKey.from_bytes(bytes(32))
    verify(key.public, b"yes", key.sign(b"yes"))
    with pytest.raises(Corrupt, match="signature"):
        verify(*change(key.public, b"yes", key.sign(b"yes")))


def test_keys_do_not_print_themselves() -> None:
    key = SigningKey.from_bytes(KEY)
    assert repr(key) == "SigningKey()"
