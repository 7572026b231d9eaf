"""A hash tree over the updates of a round (the tree of RFC 9162, section 2.1).

One signature under the root speaks for every update of a round, however many; that one of them is in it is
proved by some seven hashes in a hundred.  Who sees a proof learns nothing of the other leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from unisono.crypto.digest import sha256

LEAF, NODE = b"\0", b"\1"  # a leaf is never a node: no proof for what is not a leaf


def leaf_hash(data: bytes) -> bytes:
    """Return the hash that stands for a leaf."""
    return sha256(LEAF + data)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree over hashes of leaves; all its levels, the leaves first."""

    levels: tuple[tuple[bytes, ...], ...]

    @classmethod
    def over(cls, leaves: Sequence[bytes]) -> Self:
        """Build the tree: about as many hashes again as there are leaves."""
        levels = [tuple(leaves)]
        while len(levels[-1]) > 1:
            levels.append(_above(levels[-1]))
        return cls(tuple(levels))

    @property
    def root(self) -> bytes:
        """Return the one hash that stands for all leaves.  Of none: the hash of nothing."""
        return self.levels[-1][0] if self.levels[0] else sha256(b"")

    def path(self, index: int) -> tuple[bytes, ...]:
        """Return the hashes beside the way from leaf `index` up to the root."""
        found = []
        for level in self.levels[:-1]:
            if index ^ 1 < len(level):
                found.append(level[index ^ 1])
            index >>= 1
        return tuple(found)


def leads_to(root: bytes, leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bool:
    """Tell whether `path` leads from the leaf with this number of `count` to `root`."""
    if not 0 <= index < count:
        return False
    found, left = leaf, list(path)
    while count > 1:
        if index ^ 1 < count:
            if not left:
                return False
            beside = left.pop(0)
            found = _node(beside, found) if index & 1 else _node(found, beside)
        index, count = index >> 1, (count + 1) >> 1
    return not left and found == root


def _above(level: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the level above: pairs; the last of an odd number goes up as it is."""
    pairs = tuple(_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2))
    return pairs + level[len(level) & ~1 :]


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(NODE + left + right)
