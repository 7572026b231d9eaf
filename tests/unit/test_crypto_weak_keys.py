"""Ed25519 keys of small order are nobody's: a signature would fit many messages, and anybody can make it."""

import pytest

from unisono.base.errors import BadCredentials, Corrupt
from unisono.crypto import SigningKey
from unisono.crypto.keys import _WEAK, is_weak, verify
from unisono.identity import Statement

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


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
    for encoded in _WEAK:
        one = point(encoded)
        eight = one
        for _ in range(3):
            eight = add(eight, eight)
        assert eight == (0, 1), encoded.hex()
        ys.add(one[1])
    assert len(ys) == 5  # 8 points: two with y = 0, four of order 8 in two pairs, and y = 1, -1


@pytest.mark.parametrize("sign", [0, 0x80])
def test_neither_sign_of_a_weak_key_signs_anything(sign: int) -> None:
    """64 zeros under 32 zeros were a signature of a quarter of all messages."""
    for encoded in _WEAK:
        public = encoded[:31] + bytes((encoded[31] | sign,))
        assert is_weak(public)
        for count in range(16):
            with pytest.raises(Corrupt, match="small order"):
                verify(public, bytes(count), bytes(64))
            with pytest.raises(BadCredentials):
                Statement("rotate", (bytes(count),)).check(public, bytes(64))


def test_other_keys_are_not_weak() -> None:
    for number in range(32):
        key = SigningKey.from_bytes(bytes((number,)) * 32)
        assert not is_weak(key.public)
        verify(key.public, b"message", key.sign(b"message"))
