"""Leg 3: show U2 to its members, collect a quorum."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.ids import ClientName
from unisono.secagg.shared.encoding import Coded

from .faults import NoQuorum
from .reveal import Revealing
from .stage import Record, Step
from .survivors import Signable, survivors


@dataclass(frozen=True, slots=True)
class Agreeing(Signable, kind="server/agreeing"):
    """U2 is frozen."""

    phase: ClassVar[str] = "agreeing"

    def certify(self) -> Step:
        book = self.book
        needed = book.roster.spec.terms.threshold
        if len(book.agreements) < needed:
            raise NoQuorum(f"{len(book.agreements)} of {len(book.u2)} survivors agreed, {needed} needed")
        book = replace(book, certified=tuple(sorted(book.agreements)))
        return Step(Revealing(book), Record("certify"))

    def message_for(self, client: ClientName) -> Coded | None:
        number = self.book.roster.numbers.get(client)
        return survivors(self.book) if number in self.book.survivors else None

    def waiting_for(self) -> tuple[ClientName, ...]:
        agreements = dict(self.book.agreements)
        return self.book.roster.names(
            tuple(n for n in self.book.present(self.book.survivors) if n not in agreements)
        )
