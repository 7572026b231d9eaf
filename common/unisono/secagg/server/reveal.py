"""Leg 4: ask for one kind of share for each client, collect t answers."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.errors import WrongPhase
from unisono.base.ids import ClientName
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.keys import is_share
from unisono.secagg.shared.messages import Answer, Opened
from unisono.secagg.shared.statements import Members

from .book import Book
from .faults import BadShares
from .stage import Record, Stage, Step
from .survivors import Signable, quorum, survivors


@dataclass(frozen=True, slots=True)
class Revealing(Signable, kind="server/revealing"):
    """U2 is certified.  With t answers `opening.open_masks` gives the masks of the sum."""

    phase: ClassVar[str] = "revealing"

    def reveal(self, client: ClientName, answer: Answer) -> Step:
        number = self.book.number(client, "a reveal")
        if number in dict(self.book.answers):
            return Stage.reveal(self, client, answer)
        if number not in self.book.survivors:
            raise WrongPhase("revealing without this client, which is no survivor", "a reveal")
        check_answer(self.book, client, answer)
        stage = replace(self, book=replace(self.book, answers=(*self.book.answers, (number, answer))))
        return Step(stage, Record("reveal", client, answer.encode()))

    @property
    def enough(self) -> bool:
        """Whether t have answered."""
        return len(self.book.answers) >= self.book.roster.spec.terms.threshold

    def message_for(self, client: ClientName) -> Coded | None:
        number = self.book.roster.numbers.get(client)
        if number not in self.book.survivors:
            return None
        if number not in dict(self.book.agreements):
            return survivors(self.book)
        return quorum(self.book.certified, self.book.survivors, self.book.dropped)

    def waiting_for(self) -> tuple[ClientName, ...]:
        answers = dict(self.book.answers)
        return self.book.roster.names(
            tuple(n for n in self.book.present(self.book.survivors) if n not in answers)
        )


def check_answer(book: Book, client: ClientName, answer: Answer) -> None:
    """One share a client, of the kind that U2 says, each a number of the field."""
    for what, opened, expected in (
        ("self masks", answer.selves, book.survivors),
        ("vaults", answer.vaults, book.dropped),
    ):
        _check_kind(client, what, opened, expected)


def _check_kind(client: ClientName, what: str, opened: tuple[Opened, ...], expected: Members) -> None:
    if tuple(share.number for share in opened) != expected:
        raise BadShares(f'"{client}" did not reveal one share for each of the {len(expected)} {what}', client)
    if not all(is_share(share.share) for share in opened):
        raise BadShares(f'"{client}" revealed a share that is no number of the field', client)
