"""Receipts: the coordinator's signed word that an update counts in a published round.

For a round it signs one statement (`Published`): run, round, attempt, how many updates count, the root of the
tree over who they are from and what their digests are, the model that came of them, and the head of its audit
log.  A client's receipt is that statement with the proof that the client's own update is in the tree.  Two
different statements of one attempt, or a model of it that is another, are a proof against the coordinator.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from unisono.base.errors import BadMessage
from unisono.base.ids import ClientName, Digest, RunId, is_digest
from unisono.crypto.kdf import encode
from unisono.identity import Statement

from .tree import Tree, leads_to, leaf_hash

What = Literal["train", "evaluate"]
MOST_WALL = 253_402_300_800.0  # seconds: the year 10000


def leaf(client: ClientName, sha256: Digest) -> bytes:
    """Return the leaf of an update, by the digest of its bytes as they travelled: masked, or sealed."""
    return leaf_hash(encode("update", client, bytes.fromhex(sha256)))


def tree_of(updates: Iterable[tuple[ClientName, Digest]]) -> Tree:
    """Return the tree over a round's updates, in the order of the clients' names."""
    return Tree.over([leaf(client, sha256) for client, sha256 in sorted(updates)])


@dataclass(frozen=True, slots=True)
class Published:
    """What is signed of a round.  `what` is "evaluate" for the closing evaluation, which makes no model."""

    ca: Digest  # fingerprint of the federation's CA: it means nothing in another
    run: RunId
    round: int
    attempt: int
    what: What
    count: int  # updates that count
    root: Digest  # of the tree over them
    model: Digest  # that the round made; of an evaluation, the one evaluated
    audit: Digest  # head of the coordinator's audit log when it was published
    wall: float

    def __post_init__(self) -> None:
        _digests("a round's statement", self.ca, self.root, self.model, self.audit)
        if not 0 <= self.wall < MOST_WALL:  # nor NaN, which JSON and calendars have no place for
            raise BadMessage(f"a round's statement holds {self.wall!r} where a time must be")

    def statement(self) -> Statement:
        """Return the statement; the order of its fields is fixed for good."""
        numbers = (self.round, self.attempt, self.what, self.count)
        return Statement(
            "receipt",
            (self.ca, self.run, *numbers, self.root, self.model, self.audit, repr(float(self.wall))),
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """Where an update is in the tree of its round."""

    client: ClientName
    sha256: Digest
    index: int
    path: tuple[Digest, ...]

    def __post_init__(self) -> None:
        _digests("a proof", self.sha256, *self.path)

    def in_tree(self, published: Published) -> bool:
        """Tell whether it is."""
        path = [bytes.fromhex(step) for step in self.path]
        root, mine = bytes.fromhex(published.root), leaf(self.client, self.sha256)
        return leads_to(root, mine, self.index, published.count, path)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A client's receipt: it proves by itself, with the certificate of the key that signed."""

    published: Published
    counted: Counted
    signature: str  # 64 bytes, hex

    def __post_init__(self) -> None:
        if _SIGNATURE.fullmatch(self.signature) is None:
            raise BadMessage("a receipt's signature is not 64 bytes")

    def check(self, public: bytes) -> None:
        """Raise BadCredentials, or BadMessage if the update is not in the tree that was signed."""
        self.published.statement().check(public, bytes.fromhex(self.signature))
        if not self.counted.in_tree(self.published):
            who, count = self.counted.client, self.published.count
            raise BadMessage(f"the update of {who} is not among the {count} that were signed for")

    def to_json(self) -> str:
        """Return canonical JSON, to keep and to show to others."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Receipt":
        """Read what `to_json` wrote.  Raises BadMessage."""
        try:
            return _READER.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BadMessage(f"not a receipt: {first['loc']}: {first['msg']}") from None


def _digests(what: str, *found: str) -> None:
    for digest in found:
        if not is_digest(digest):
            raise BadMessage(f"{what} holds {digest[:70]!r} where a SHA-256 must be")


_SIGNATURE = re.compile("[0-9a-f]{128}")
_READER = TypeAdapter(Receipt)
