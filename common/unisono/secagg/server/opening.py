"""From t answers to the masks of the sum: nothing here can open anything else.

Seeds exist in memory only; after a crash they are made again from the ledger, in milliseconds.  Shares
prove nothing by themselves, so every secret is held to what its owner committed to; if it does not fit and
more than t answered, other sets of t are tried, and who gave the odd share is named.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from unisono.base.errors import Corrupt
from unisono.base.ids import ClientName
from unisono.crypto.digest import sha256
from unisono.crypto.kdf import encode
from unisono.crypto.keys import KemKey, SealingKey
from unisono.crypto.shamir import Lagrange
from unisono.secagg.shared import keys as derive
from unisono.secagg.shared.keys import MaskStream, Vault
from unisono.secagg.shared.statements import Members

from .book import Book
from .faults import BadShares, BadVault, SumMismatch, TooFewShares
from .reveal import Revealing
from .upload import place

TRIES = 500  # sets of t, of a millisecond each
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opening:
    """What to apply to the sum of the masked vectors of U2, in any order, and who answered falsely."""

    streams: tuple[MaskStream, ...]
    odd: tuple[ClientName, ...]


@dataclass(slots=True)
class _Answers:
    """Shares by secret and holder, and the set of t holders that has worked so far."""

    book: Book
    needed: int
    rows: dict[int, dict[int, bytes]]  # owner of the secret to holder to share
    holders: Members
    good: Members
    odd: set[int] = field(default_factory=set)
    weights: dict[Members, Lagrange] = field(default_factory=dict)

    def combine(self, owner: int, holders: Members) -> bytes:
        """Return the secret that these holders' shares give.  Raises Corrupt."""
        if holders not in self.weights:
            self.weights[holders] = Lagrange(holders)
        return self.weights[holders].at_zero(self.rows[owner])

    def open(self, owner: int, test: Callable[[bytes], T]) -> T | None:
        """Return what `test` makes of the right secret; None if no set of answers gives it."""
        for holders in self._sets():
            try:
                found = test(self.combine(owner, holders))
            except Corrupt:
                continue
            if holders != self.good:
                self.good = holders
                self._accuse(owner, test)
            return found
        return None

    def _sets(self) -> Iterator[Members]:
        """Yield the set that worked last, then sets that lack one of its members, then any.

        One liar is found by leaving it out.  Several among many are not: of 100 answers, 67 needed, there are
        4950 pairs to leave out, but one in nine sets of 67 avoids a given pair.  So sets are drawn, the same
        each time.
        """
        yield self.good
        spare = [number for number in self.holders if number not in self.good]
        if not spare:
            return
        for out in self.good:
            yield tuple(sorted({*self.good, spare[0]} - {out}))
        for draw in range(TRIES):
            yield tuple(sorted(_shuffled(self.holders, draw)[: self.needed]))

    def _accuse(self, owner: int, test: Callable[[bytes], T]) -> None:
        """Note whose share does not lie on the polynomial of the others."""
        for holder in set(self.holders) - set(self.good):
            try:
                test(self.combine(owner, (*self.good[1:], holder)))
            except Corrupt:
                self.odd.add(holder)


def _shuffled(holders: Members, draw: int) -> list[int]:
    return sorted(holders, key=lambda number: sha256(encode("draw", draw, number)))


def open_masks(stage: Revealing) -> Opening:
    """Return the masks that are left in the sum over U2.

    Raises:
        TooFewShares: fewer than t have answered.
        BadShares: of a survivor; BadVault: of a dropped client.  The attempt cannot be opened.

    """
    book = stage.book
    answers = _collect(book)
    streams: list[MaskStream] = []
    for owner in book.survivors:
        streams.append(_self_mask(answers, owner))
    for owner in book.dropped:
        streams.extend(_pair_masks(book, owner, _vault(answers, owner)))
    return Opening(tuple(streams), book.roster.names(tuple(sorted(answers.odd))))


def check_sum(one: float, weight: float, survivors: int) -> None:
    """Hold the head of the opened sum to the set: the cheap alarm for masks that do not cancel.

    Lanes and unused bits are `codec.check_lanes`'s; a sum that fails either is not published.
    """
    if one != survivors or not weight > 0:
        raise SumMismatch(
            f"the opened sum counts {one:g} clients of weight {weight:g}; {survivors} survived: some masks "
            "or a vector are wrong, and nothing of it is published"
        )


def _collect(book: Book) -> _Answers:
    needed = book.roster.spec.terms.threshold
    if len(book.answers) < needed:
        raise TooFewShares(f"{len(book.answers)} of {len(book.u2)} survivors answered, {needed} needed")
    rows: dict[int, dict[int, bytes]] = {owner: {} for owner in book.u1}
    for holder, answer in book.answers:
        for opened in (*answer.selves, *answer.vaults):
            rows[opened.number][holder] = opened.share
    holders = tuple(sorted(number for number, _ in book.answers))
    return _Answers(book, needed, rows, holders, holders[:needed])


def _self_mask(answers: _Answers, owner: int) -> MaskStream:
    """Return the survivor's own mask, to be subtracted."""
    book = answers.book
    committed = dict(book.shares)[owner].commitment

    def test(secret: bytes) -> bytes:
        if derive.commitment(book.ctx, secret) != committed:
            raise Corrupt("not the secret that was committed to")
        return secret

    secret = answers.open(owner, test)
    if secret is None:
        name = book.roster.name(owner)
        raise BadShares(
            f'the {len(answers.holders)} shares of "{name}" do not give what it committed to', name
        )
    return MaskStream(derive.self_seed(book.ctx, secret), add=False)


def _vault(answers: _Answers, owner: int) -> Vault:
    """Return the dropped client's opened vault, held to the keys that it advertised."""
    book = answers.book
    entry = book.roster.entry(owner)
    sealed = dict(book.shares)[owner].vault
    vault = answers.open(owner, partial(Vault.open, sealed, ctx=book.ctx, number=owner))
    if vault is None:
        text = f'the {len(answers.holders)} shares of "{entry.name}" do not open its vault'
        raise BadVault(text, entry.name)
    public = SealingKey.from_bytes(vault.s).public, KemKey.from_bytes(vault.es).public
    if public != (entry.s, entry.es):
        raise BadVault(f'the vault of "{entry.name}" holds other keys than it advertised', entry.name)
    return vault


def _pair_masks(book: Book, gone: int, vault: Vault) -> Iterator[MaskStream]:
    """Yield the masks that each survivor shares with this dropped client, with the sign turned round."""
    own, kem = SealingKey.from_bytes(vault.s), KemKey.from_bytes(vault.es)
    shares = dict(book.shares)
    for number in book.survivors:
        parcel = shares[number].parcels[place(gone, number)]
        theirs = number, kem.decapsulate(parcel.mask_kem)
        mine = gone, vault.secrets[place(number, gone)]
        seed = derive.pair_seed(book.ctx, own.agree(book.roster.entry(number).s), mine, theirs)
        yield MaskStream(seed, add=not derive.adds(number, gone))
