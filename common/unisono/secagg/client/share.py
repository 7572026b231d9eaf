"""Leg 1: deal out shares of two secrets; take everybody's, after both rules about U1.

b opens the own self mask (if the client survives), v opens the vault with what rebuilds its pair masks (if
it drops out).  Never both: that is leg 4's rule.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from unisono.base.errors import Corrupt, Fault
from unisono.base.ids import Digest
from unisono.crypto.entropy import Entropy
from unisono.crypto.keys import KemKey, SealingKey, SigningKey, encapsulate
from unisono.crypto.shamir import split
from unisono.secagg.shared import keys as derive
from unisono.secagg.shared import statements
from unisono.secagg.shared.messages import Closing, Complaint, Deal, Dealt, Parcel, Share
from unisono.secagg.shared.roster import Roster, context
from unisono.secagg.shared.spec import Spec

from .abandon import Abandoned
from .framed import Framed
from .holding import Held, Keys, Pair
from .refusals import (
    AlreadyReleased,
    OtherContext,
    SecondContext,
    ShareUnreadable,
    TooFewShared,
    WeakKey,
)
from .state import Frame, Move, Setup, State
from .upload import Ready


@dataclass(frozen=True, slots=True)
class Rostered(State, kind="client/rostered"):
    """The roster is checked and stored; the model is awaited."""

    phase: ClassVar[str] = "rostered"
    setup: Setup
    keys: Keys
    roster: Roster

    def receive_roster(self, roster: Roster, spec_for: Callable[[int], Spec]) -> Move["Rostered"]:
        if roster != self.roster:
            raise SecondContext("a second roster for the same keys")
        return Move(self)

    def share(self, model: Digest, key: SigningKey, entropy: Entropy) -> Move["Shared"]:
        if model != self.setup.model:
            raise SecondContext(
                "invited to start from one model, and shown another: it may be one released from"
            )
        only = self.setup.only
        if only is not None and only.model != model:
            raise AlreadyReleased("an open attempt may only be repeated from its own model; this is another")
        frame = self._frame(model)
        return deal_out(frame, self.keys, key, entropy)

    def abandon(self, request: Closing, key: SigningKey) -> Move[Abandoned]:
        """Help to close the attempt without ever having shared in it, nor doing so later."""
        if request.model != self.setup.model:
            raise OtherContext("asked to abandon an attempt on another model than the one it was invited to")
        return Move(*Abandoned.sign(self._frame(request.model), key, None))

    def _frame(self, model: Digest) -> Frame:
        return Frame(self.setup, self.roster, model, context(self.setup.attempt, model, self.roster))


@dataclass(frozen=True)
class Shared(Framed, kind="client/shared"):
    """ctx and every parcel are stored; the parcels may be sent."""

    phase: ClassVar[str] = "shared"
    keys: Keys
    b: bytes = field(repr=False)
    pairs: tuple[Pair, ...]  # with each other client, in the roster's order
    own: Held
    message: Share

    def share(self, model: Digest, key: SigningKey, entropy: Entropy) -> Move["Shared"]:
        """Return the same bytes again: nothing is ever sealed twice under a key."""
        self._same_model(model)
        return Move(self, self.message)

    def receive_roster(self, roster: Roster, spec_for: Callable[[int], Spec]) -> Move[State]:
        """Answer a coordinator that lost the parcels."""
        if roster != self.frame.roster:
            raise SecondContext("a second roster for the same keys")
        return Move(self, self.message)

    def complaint(self, refusal: ShareUnreadable) -> bytes:
        """Return what tells the coordinator whose parcel does not open; the client sits the attempt out."""
        if refusal.peer is None:
            raise Fault("a parcel that does not open has a sender")
        return Complaint(self.frame.roster.numbers[refusal.peer]).encode()

    def receive_deal(self, deal: Deal) -> Move[Ready]:
        frame = self.frame
        check_u1(frame, deal)
        check_contexts(frame, deal)
        ec, es = self.keys.decapsulating()
        held = [self.own]
        masks = [derive.MaskStream(derive.self_seed(frame.ctx, self.b), add=True)]
        pairs = dict(zip(frame.roster.others(frame.me), self.pairs, strict=True))
        for dealt in deal.parcels:
            pair = pairs[dealt.sender]
            held.append(open_parcel(frame, pair, ec, dealt))
            theirs = dealt.sender, es.decapsulate(dealt.parcel.mask_kem)
            seed = derive.pair_seed(frame.ctx, pair.s, (frame.me, pair.mask), theirs)
            masks.append(derive.MaskStream(seed, derive.adds(frame.me, dealt.sender)))
        held.sort(key=lambda share: share.owner)
        return Move(Ready(frame, deal.u1, tuple(held), tuple(masks)))


def deal_out(frame: Frame, keys: Keys, key: SigningKey, entropy: Entropy) -> Move[Shared]:
    """Rows 15 and 16, then make all that is sent under the context, once."""
    t, n = frame.spec.terms.threshold, frame.spec.terms.clients
    b, v = entropy(32), entropy(32)
    shares = list(zip(split(b, t, n, entropy), split(v, t, n, entropy), strict=True))
    exchanging, parcels, pairs = keys.exchanging(), list[Parcel](), list[Pair]()
    for other in frame.roster.others(frame.me):
        parcel, pair = _parcel(frame, exchanging, other, shares[other - 1])
        parcels.append(parcel)
        pairs.append(pair)
    vault = derive.Vault(keys.s, keys.es, tuple(pair.mask for pair in pairs)).seal(v, frame.ctx, frame.me)
    message = Share(
        frame.model,
        frame.spec.digest,
        frame.roster.root,
        tuple(parcels),
        derive.commitment(frame.ctx, b),
        vault,
        statements.share(frame.ctx, frame.me).sign(key),
    )
    own = Held(frame.me, *shares[frame.me - 1])
    return Move(Shared(frame, keys, b, tuple(pairs), own, message), message)


def _parcel(
    frame: Frame, own: tuple[SealingKey, SealingKey], other: int, shares: tuple[bytes, bytes]
) -> tuple[Parcel, Pair]:
    """Return what goes to one other client, and what is common with it from now on."""
    entry, (c, s) = frame.roster.entry(other), own
    try:
        shared, masked = c.agree(entry.c), s.agree(entry.s)
        (share_secret, share_kem), (mask_secret, mask_kem) = encapsulate(entry.ec), encapsulate(entry.es)
    except Corrupt as problem:
        raise WeakKey(f'a key of "{entry.name}" gives no secret: {problem}', entry.name) from None
    lane = derive.Lane(frame.ctx, frame.me, other, share_kem, mask_kem)
    parcel = Parcel(share_kem, mask_kem, lane.seal(shared + share_secret, shares))
    return parcel, Pair(shared, masked, mask_secret)


def check_u1(frame: Frame, deal: Deal) -> None:
    """Row 17: a U1 of this client and colluders would leave it with pair masks that the coordinator knows."""
    u1, minimum = deal.u1, frame.spec.terms.minimum
    if frame.me not in u1 or u1[-1] > len(frame.roster.entries):
        raise TooFewShared("those who shared are not of the roster, or this client is not among them")
    if len(u1) < minimum:
        raise TooFewShared(f"{len(u1)} clients shared; at least {minimum} are needed")


def check_contexts(frame: Frame, deal: Deal) -> None:
    """Row 18: every member of U1 is on this very model, spec and roster."""
    dealt = {parcel.sender: parcel for parcel in deal.parcels}
    for number in deal.u1:
        if number == frame.me:
            continue
        name = frame.roster.name(number)
        if number not in dealt:
            raise ShareUnreadable(f'there is no parcel from "{name}", who is said to have shared', name)
        if not statements.share(frame.ctx, number).signed(
            frame.roster.identity(number), dealt[number].signature
        ):
            raise OtherContext(f'"{name}" was shown another model, spec or roster than this client', name)
    if stray := dealt.keys() - set(deal.u1) or dealt.keys() & {frame.me}:
        raise TooFewShared(f"parcels of {len(stray)} clients who are not said to have shared")


def open_parcel(frame: Frame, pair: Pair, ec: KemKey, dealt: Dealt) -> Held:
    """Row 19."""
    parcel = dealt.parcel
    lane = derive.Lane(frame.ctx, dealt.sender, frame.me, parcel.share_kem, parcel.mask_kem)
    try:
        return Held(dealt.sender, *lane.open(pair.c + ec.decapsulate(parcel.share_kem), parcel.box))
    except Corrupt:
        name = frame.roster.name(dealt.sender)
        raise ShareUnreadable(f'the parcel from "{name}" does not open', name) from None
