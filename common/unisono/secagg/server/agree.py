"""Leg 3: show U2 to its members, collect a quorum."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.ids import ClientName
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.messages import Agree

from .abandon import Closeable
from .faults import NoQuorum
from .reveal import Revealing
from .stage import Record, Stage, Step
from .survivors import agreed, survivors


@dataclass(frozen=True, slots=True)
class Agreeing(Closeable, kind="server/agreeing"):
    """U2 is frozen."""

    phase: ClassVar[str] = "agreeing"

    def agree(self, client: ClientName, agree: Agree) -> Step:
        number = self.book.number(client, "an agreement")
        if number in dict(self.book.agreements):
            return Stage.agree(self, client, agree)
        stage = replace(self, book=agreed(self.book, number, agree))
        return Step(stage, Record("agree", client, agree.encode()))

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
