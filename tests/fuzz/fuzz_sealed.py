"""Sealed bytes: files at rest and sealed uploads.  Nothing that was changed opens."""

from collections.abc import Iterator
from functools import cache

from fuzz_target import Target, same

from unisono.base.errors import Corrupt
from unisono.crypto import AtRest, SealingKey, seal_to
from unisono.crypto.at_rest import HEADER
from unisono.crypto.sealing import ENVELOPE, open_from
from unisono.crypto.segments import SEGMENT, TAG, Opener, layout, plain_length

KEY, CONTEXT, PLAIN = bytes(range(32)), b"context", bytes(range(256)) * 3


def _entropy(count: int) -> bytes:
    return bytes(range(7, 7 + count))


@cache
def _private() -> SealingKey:
    return SealingKey.generate(_entropy)


@cache
def _at_rest_file(plain: bytes = PLAIN) -> bytes:
    header, sealer = AtRest(KEY).new(_entropy, CONTEXT)
    return header + _sealed(sealer.seal, plain)


@cache
def _upload(plain: bytes = PLAIN) -> bytes:
    envelope, sealer = seal_to(_private().public, CONTEXT, _entropy)
    return envelope + _sealed(sealer.seal, plain)


def _sealed(seal: object, plain: bytes) -> bytes:
    assert callable(seal)
    parts = [seal(plain[start:stop], last=last) for _, start, stop, last in layout(len(plain))]
    return b"".join(parts)


def _opened(opener: Opener, body: bytes) -> bytes:
    plain = bytearray()
    for index, start, stop, last in layout(plain_length(len(body))):
        at = start + index * TAG
        plain += opener.open(index, body[at : at + stop - start + TAG], last=last)
    return bytes(plain)


def _at_rest(data: bytes) -> None:
    plain = _opened(AtRest(KEY).opener(data[:HEADER], CONTEXT), data[HEADER:])
    same(data in {_at_rest_file(), _at_rest_file(b"")}, True)
    same(plain in {PLAIN, b""}, True)


def _sealed_upload(data: bytes) -> None:
    plain = _opened(open_from(_private(), data[:ENVELOPE], CONTEXT), data[ENVELOPE:])
    # Bit 255 of an X25519 key is masked (RFC 7748, section 5), but the key is bound to the bytes as sent.
    same(data in {_upload(), _upload(b"")}, True)
    same(plain in {PLAIN, b""}, True)


def _lengths(data: bytes) -> None:
    sealed = int.from_bytes(data[:16], "big", signed=True)
    plain = plain_length(sealed)
    same(plain + TAG * max(1, -(-plain // SEGMENT)), sealed)


def _length_seeds() -> Iterator[bytes]:
    for sealed in (16, SEGMENT + TAG, 2 * SEGMENT):
        yield sealed.to_bytes(16, "big", signed=True)


TARGETS = (
    Target("at_rest", _at_rest, lambda: (_at_rest_file(), _at_rest_file(b"")), (Corrupt,), 2048),
    Target("sealed_upload", _sealed_upload, lambda: (_upload(), _upload(b"")), (Corrupt,), 2048),
    Target("sealed_length", _lengths, _length_seeds, (Corrupt,), 16),
)
