"""A 32-byte secret in n shares: any t of them give it back, fewer tell nothing (Shamir 1979).

Over p = 2^256 + 297, the first prime above all secrets, in Python's integers.  A share is f(x), 33 bytes,
big endian; x = 1..n is its holder's place in the roster and never travels.  Shares prove nothing: whoever
combines them checks the secret.
"""

from collections.abc import Mapping, Sequence
from math import prod

from unisono.base.errors import Corrupt, Fault

from .entropy import Entropy

PRIME = 2**256 + 297
SHARE, MOST_SHARES = 33, 1000
_COEFFICIENT = 48  # bytes of entropy, reduced: 384 bits on 257 leave a bias below 2^-127


def split(secret: bytes, threshold: int, count: int, entropy: Entropy) -> tuple[bytes, ...]:
    """Return `count` shares; that of x is at x - 1."""
    if len(secret) != 32 or not 2 <= threshold <= count <= MOST_SHARES:
        raise Fault(f"{len(secret)} bytes in {count} shares, {threshold} needed: not 32, or not 2 <= t <= n")
    raw = entropy(_COEFFICIENT * (threshold - 1))
    chunks = [raw[i : i + _COEFFICIENT] for i in range(0, len(raw), _COEFFICIENT)] + [secret]
    polynomial = [int.from_bytes(chunk, "big") % PRIME for chunk in chunks]  # the highest power first
    return tuple(_evaluate(polynomial, x).to_bytes(SHARE, "big") for x in range(1, count + 1))


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret from the shares of the `threshold` smallest x.  Raises Corrupt."""
    if len(shares) < threshold:
        raise Corrupt(f"{len(shares)} shares; the secret needs {threshold}")
    return Lagrange(sorted(shares)[:threshold]).at_zero(shares)


class Lagrange:
    """Weights that give f(0) from f at `xs`: made once for a set of holders, used for all secrets."""

    def __init__(self, xs: Sequence[int]) -> None:
        if not xs or len(set(xs)) != len(xs) or not 1 <= min(xs) <= max(xs) <= MOST_SHARES:
            raise Corrupt(f"shares of x = {list(xs)[:9]}: not distinct numbers from 1 to {MOST_SHARES}")
        self._weights = {x: _weight(x, xs) for x in xs}

    def at_zero(self, shares: Mapping[int, bytes]) -> bytes:
        """Return the secret; shares of other x are ignored.  Raises Corrupt."""
        total = sum(weight * _value(x, shares.get(x, b"")) for x, weight in self._weights.items()) % PRIME
        if total >> 256:
            raise Corrupt(f"the shares of x = {list(self._weights)[:9]} give no 32-byte secret: one is wrong")
        return total.to_bytes(32, "big")


def _evaluate(polynomial: Sequence[int], x: int) -> int:
    y = 0
    for coefficient in polynomial:
        y = y * x + coefficient  # x is small: to reduce once is twice as fast as at every step
    return y % PRIME


def _weight(x: int, xs: Sequence[int]) -> int:
    others = [other for other in xs if other != x]
    return prod(others) * pow(prod(other - x for other in others), -1, PRIME) % PRIME


def _value(x: int, share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE or value >= PRIME:
        raise Corrupt(
            f"the share of x = {x} is not {SHARE} bytes ({len(share)}) of a number below 2^256 + 297"
        )
    return value
