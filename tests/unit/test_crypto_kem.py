"""ML-KEM-768: published answers, the two hashes that FIPS 203 lets a test compute itself, refusals."""

import hashlib
import json
from pathlib import Path

import pytest

from unisono.base.errors import Corrupt
from unisono.crypto import sha256_hex
from unisono.crypto.keys import KEM_CIPHERTEXT, KEM_PUBLIC, KemKey, encapsulate

CASES: list[dict[str, str]] = json.loads(
    (Path(__file__).resolve().parent.parent / "vectors" / "ml_kem_768.json").read_text()
)
KEY = KemKey.from_bytes(bytes(range(64)))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_published(case: dict[str, str]) -> None:
    key = KemKey.from_bytes(bytes.fromhex(case["seed"]))
    assert sha256_hex(key.public) == case["public_sha256"]
    assert key.decapsulate(bytes.fromhex(case["ciphertext"])).hex() == case["secret"]
    rejected = key.decapsulate(bytes.fromhex(case["rejected_ciphertext"]))
    assert rejected.hex() == case["rejected_secret"]


def test_both_sides_agree_and_never_twice_on_the_same() -> None:
    secrets = set()
    for _ in range(3):
        secret, ciphertext = encapsulate(KEY.public)
        assert (len(secret), len(ciphertext)) == (32, KEM_CIPHERTEXT)
        assert KEY.decapsulate(ciphertext) == secret
        secrets.add(secret)
    assert len(secrets) == 3


def test_the_seed_is_the_key() -> None:
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        return bytes(range(count))

    key = KemKey.generate(entropy)
    assert drawn == [64]
    assert key.to_bytes() == bytes(range(64))
    assert KemKey.from_bytes(key.to_bytes()).public == key.public == KEY.public
    assert len(key.public) == KEM_PUBLIC


def test_the_public_seed_is_that_of_fips_203() -> None:
    """Algorithm 13: rho, the last 32 bytes of the public key, is the first half of SHA3-512(d, k = 3)."""
    assert KEY.public[-32:] == hashlib.sha3_512(KEY.to_bytes()[:32] + b"\3").digest()[:32]


@pytest.mark.parametrize("bit", [0, 4000, 8 * KEM_CIPHERTEXT - 1])
def test_an_altered_ciphertext_gives_the_rejection_secret(bit: int) -> None:
    """Algorithm 18: SHAKE256(z, ciphertext), which the sender cannot know."""
    secret, ciphertext = encapsulate(KEY.public)
    altered = bytearray(ciphertext)
    altered[bit // 8] ^= 1 << bit % 8
    found = KEY.decapsulate(bytes(altered))
    assert found != secret
    assert found == hashlib.shake_256(KEY.to_bytes()[32:] + altered).digest(32)


@pytest.mark.parametrize("length", [0, KEM_CIPHERTEXT - 1, KEM_CIPHERTEXT + 1])
def test_a_ciphertext_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Corrupt, match=f"not {length}"):
        KEY.decapsulate(bytes(length))


@pytest.mark.parametrize(
    "public",
    [b"", KEY.public[:-1], KEY.public + b"\0", b"\xff\xff\xff" + KEY.public[3:]],
    ids=["empty", "short", "long", "coefficient not reduced"],
)
def test_a_malformed_public_key_is_refused(public: bytes) -> None:
    with pytest.raises(Corrupt, match="no ML-KEM-768 public key"):
        encapsulate(public)


@pytest.mark.parametrize("length", [32, 63, 65])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Corrupt, match="64 bytes"):
        KemKey.from_bytes(bytes(length))


def test_a_key_does_not_print_itself() -> None:
    assert repr(KEY) == "KemKey()"
