"""Ed25519 keys of small order are nobody's: a signature would fit many messages, and anybody can make it."""

import pytest

from unisono.base.errors import BadCredentials, Corrupt
from unisono.crypto import SigningKey
from unisono.crypto.keys import _WEAK, is_weak, verify
from unisono.identity import Statement

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
WEAK = [
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",  # 0 and 1 again, not reduced
        "ee" + "ff" * 30 + "7f",
    )
]  # as libsodium lists them, without the bit of the sign


def add(a: Point, b: Point) -> Point:
    """Twisted Edwards addition, a = -1 (RFC 8032, section 5.1.4, in affine coordinates)."""
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P,
    )


def point(encoded: bytes) -> Point:
    """A point with this y; which of the two x does not matter for its order."""
    y = int.from_bytes(encoded, "little") % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return x, y


def test_the_list_is_of_points_whose_order_divides_eight_and_has_all_of_them() -> None:
    ys = set()
    for encoded in WEAK:
        one = point(encoded)
        eight = one
        for _ in range(3):
            eight = add(eight, eight)
        assert eight == (0, 1), encoded.hex()
        ys.add(one[1])
    assert ys == _WEAK
    assert len(ys) == 5  # 8 points: two with y = 0, four of order 8 in two pairs, and y = 1, -1


@pytest.mark.parametrize("sign", [0, 0x80])
def test_neither_sign_of_a_weak_key_signs_anything(sign: int) -> None:
    """64 zeros under 32 zeros were a signature of a quarter of all messages."""
    for encoded in WEAK:
        public = encoded[:31] + bytes((encoded[31] | sign,))
        assert is_weak(public)
        for count in range(16):
            with pytest.raises(Corrupt, match="small order"):
                verify(public, bytes(count), bytes(64))
            with pytest.raises(BadCredentials):
                Statement("rotate", (bytes(count),)).check(public, bytes(64))


def test_every_way_to_write_a_weak_y_is_known_and_no_other() -> None:
    written = {y for weak in _WEAK for y in range(weak, 2**255, P)}
    assert {y.to_bytes(32, "little") for y in written} == set(WEAK)
    for y in set(range(20)) | set(range(P - 20, 2**255)) | {y + d for y in _WEAK if y > 1 for d in (-1, 1)}:
        assert is_weak(y.to_bytes(32, "little")) == (y in written)


def test_what_is_no_key_is_not_called_weak() -> None:
    for raw in (b"", bytes(31), bytes(33)):
        assert not is_weak(raw)


def test_other_keys_are_not_weak() -> None:
    for number in range(32):
        key = SigningKey.from_bytes(bytes((number,)) * 32)
        assert not is_weak(key.public)
        verify(key.public, b"message", key.sign(b"message"))
