"""Known answers: published ones for the primitives, pinned ones (and named failures) for our file format."""

import json
from pathlib import Path
from typing import TypedDict

import pytest

from unisono.base.errors import Corrupt
from unisono.crypto import (
    TAG,
    Opener,
    Sealer,
    SealingKey,
    SigningKey,
    Stream,
    layout,
    plain_length,
    sha256_hex,
    verify,
)
from unisono.crypto.kdf import hkdf

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


class Success(TypedDict):
    name: str
    key: str
    plain_key: str
    context: str
    plain: int
    sealed: int
    sha256: str


class Failure(TypedDict, total=False):
    name: str
    of: str
    keep: list[list[int]]  # these ranges of the sealed bytes, one after the other
    append: str
    flip: int  # bit
    context: str
    key: str


def published(file: str) -> list[dict[str, str]]:
    cases: list[dict[str, str]] = json.loads((VECTORS / file).read_text())
    return cases


def ours() -> tuple[list[Success], list[Failure]]:
    cases = json.loads((VECTORS / "segments.json").read_text())
    return cases["successes"], cases["failures"]


SUCCESSES, FAILURES = ours()
raw = bytes.fromhex


def name_of(case: dict[str, str] | Success | Failure) -> str:
    return case["name"]


@pytest.mark.parametrize("case", published("hkdf.json"), ids=name_of)
def test_hkdf(case: dict[str, str]) -> None:
    expected = raw(case["okm"])
    salt, info = raw(case["salt"]), raw(case["info"])
    assert hkdf(raw(case["secret"]), salt=salt, info=info, length=len(expected)) == expected


@pytest.mark.parametrize("case", published("aes_ctr.json"), ids=name_of)
def test_keystream(case: dict[str, str]) -> None:
    offset = int(case["counter"], 16) * 16 if "counter" in case else int(case["offset"])
    expected = raw(case["stream"])
    out = bytearray(len(expected))
    Stream(raw(case["key"]), offset).fill(out)
    assert out == expected


@pytest.mark.parametrize("case", published("x25519.json"), ids=name_of)
def test_x25519(case: dict[str, str]) -> None:
    key = SealingKey.from_bytes(raw(case["private"]))
    assert key.public == raw(case["public"])
    assert key.agree(raw(case["peer"])) == raw(case["shared"])


@pytest.mark.parametrize("case", published("ed25519.json"), ids=name_of)
def test_ed25519(case: dict[str, str]) -> None:
    key = SigningKey.from_bytes(raw(case["private"]))
    assert key.public == raw(case["public"])
    assert key.sign(raw(case["message"])) == raw(case["signature"])
    verify(key.public, raw(case["message"]), raw(case["signature"]))


def plain_of(case: Success) -> bytearray:
    plain = bytearray(case["plain"])
    Stream(raw(case["plain_key"])).fill(plain)
    return plain


def seal(case: Success) -> bytes:
    plain, sealer = plain_of(case), Sealer(raw(case["key"]), case["context"].encode())
    return b"".join(sealer.seal(plain[start:stop], last=last) for _, start, stop, last in layout(len(plain)))


def open_all(sealed: bytes, key: bytes, context: bytes) -> bytes:
    opener = Opener(key, context)
    return b"".join(
        opener.open(index, sealed[start + TAG * index : stop + TAG * (index + 1)], last=last)
        for index, start, stop, last in layout(plain_length(len(sealed)))
    )


@pytest.mark.parametrize("case", SUCCESSES, ids=name_of)
def test_sealed_file(case: Success) -> None:
    sealed = seal(case)
    assert len(sealed) == case["sealed"]
    assert sha256_hex(sealed) == case["sha256"]
    assert open_all(sealed, raw(case["key"]), case["context"].encode()) == plain_of(case)


@pytest.mark.parametrize("case", FAILURES, ids=name_of)
def test_changed_file_is_refused(case: Failure) -> None:
    of = next(success for success in SUCCESSES if success["name"] == case["of"])
    sealed = seal(of)
    edited = bytearray(b"".join(sealed[start:stop] for start, stop in case.get("keep", [[0, len(sealed)]])))
    edited += raw(case.get("append", ""))
    if "flip" in case:
        edited[case["flip"] // 8] ^= 0x80 >> case["flip"] % 8
    context = case.get("context", of["context"]).encode()
    with pytest.raises(Corrupt, match=r"segment \d|bytes was cut"):
        open_all(bytes(edited), raw(case.get("key", of["key"])), context)
