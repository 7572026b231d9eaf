"""Leg 1: collect parcels, freeze U1."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.ids import ClientName
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.keys import Vault
from unisono.secagg.shared.messages import Share
from unisono.secagg.shared.statements import share as statement

from .abandon import Closeable
from .book import Book
from .faults import BadSignature, CohortTooSmall, IncompleteShares, OtherContext
from .stage import Record, Stage, Step
from .upload import Uploading


@dataclass(frozen=True, slots=True)
class Sharing(Closeable, kind="server/sharing"):
    """The roster is frozen; parcels come in while the clients train."""

    phase: ClassVar[str] = "sharing"

    def share(self, client: ClientName, share: Share) -> Step:
        book = self.book
        number = self._admit(client, "a share message")
        if number in dict(book.shares):
            return Stage.share(self, client, share)
        check_context(book, client, share)
        check_complete(book, client, share)
        if not statement(book.ctx, number).signed(book.roster.identity(number), share.signature):
            raise BadSignature(f'the share message of "{client}" is not signed for this context', client)
        stage = replace(self, book=replace(book, shares=(*book.shares, (number, share))))
        return Step(stage, Record("share", client, share.encode()))

    def freeze_shares(self) -> Step:
        """Freeze U1, once: clients refuse another, so if this one is lost the attempt is closed."""
        book = self.book
        u1 = book.present(tuple(sorted(number for number, _ in book.shares)))
        minimum = book.roster.spec.terms.minimum
        if len(u1) < minimum:
            raise CohortTooSmall(f"{len(u1)} of {len(book.roster.entries)} clients shared, {minimum} needed")
        return Step(Uploading(replace(book, u1=u1)), Record("freeze_shares"))

    def message_for(self, client: ClientName) -> Coded | None:
        return self.book.roster if client in self.book.roster.numbers else None

    def waiting_for(self) -> tuple[ClientName, ...]:
        everybody = tuple(range(1, len(self.book.roster.entries) + 1))
        shared = dict(self.book.shares)
        return self.book.roster.names(tuple(n for n in self.book.present(everybody) if n not in shared))


def check_context(book: Book, client: ClientName, share: Share) -> None:
    """Tell a client on another model, spec or roster which of them differs."""
    pairs = (
        ("model", share.model, book.model),
        ("spec", share.spec, book.roster.spec.digest),
        ("roster", share.root, book.roster.root),
    )
    if differing := [what for what, theirs, ours in pairs if theirs != ours]:
        raise OtherContext(f'"{client}" shared under another {" and ".join(differing)}', client)


def check_complete(book: Book, client: ClientName, share: Share) -> None:
    """One parcel for every other client, and a vault that tells nothing by its length."""
    others = len(book.roster.entries) - 1
    if len(share.parcels) != others:
        raise IncompleteShares(f'"{client}" sent {len(share.parcels)} parcels; {others} are needed', client)
    if len(share.vault) != Vault.length(others + 1):
        raise IncompleteShares(f'the vault of "{client}" has {len(share.vault)} bytes', client)
