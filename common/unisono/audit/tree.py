"""A hash tree over the updates of a round (the tree of RFC 9162, section 2.1).

One signature under the root speaks for every update of a round, however many; that one of them is in it is
proved by some seven hashes in a hundred.  Who sees a proof learns nothing of the other leaves.
"""

from collections.abc import Sequence

from unisono.crypto.digest import sha256

LEAF, NODE = b"\0", b"\1"  # a leaf is never a node: no proof for what is not a leaf


def leaf_hash(data: bytes) -> bytes:
    """Return the hash that stands for a leaf."""
    return sha256(LEAF + data)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves.  Of none: the hash of nothing."""
    if not leaves:
        return sha256(b"")
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def prove(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the hashes beside the way from leaf `index` up to the root."""
    path, level = list[bytes](), list(leaves)
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        level, index = _above(level), index >> 1
    return tuple(path)


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


def _above(level: Sequence[bytes]) -> list[bytes]:
    """Return the level above: pairs; the last of an odd number goes up as it is."""
    pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + list(level[len(level) & ~1 :])


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(NODE + left + right)
