"""U2 as it is shown and signed: in leg 3, and in leg 4 for those who come late."""

from dataclasses import dataclass, replace
from functools import lru_cache

from unisono.base.errors import WrongPhase
from unisono.base.ids import ClientName
from unisono.secagg.shared.messages import Agree, Quorum, Signatures, Survivor, Survivors, Upload
from unisono.secagg.shared.statements import Members, Tally
from unisono.secagg.shared.statements import agree as statement

from .abandon import Closeable
from .book import Book
from .faults import BadSignature
from .stage import Record, Stage, Step


@dataclass(frozen=True, slots=True)
class Signable(Closeable):
    """A stage in which U2 may be signed; in leg 4 by those who come late, who may only then reveal."""

    def agree(self, client: ClientName, agree: Agree) -> Step:
        number = self.book.number(client, "an agreement")
        if number in dict(self.book.agreements):
            return Stage.agree(self, client, agree)
        stage = replace(self, book=agreed(self.book, number, agree))
        return Step(stage, Record("agree", client, agree.encode()))


def survivors(book: Book) -> Survivors:
    """Return U2 with the upload statement of each member: the same for all, so made and encoded once."""
    return _survivors(book.u2, book.uploads)


@lru_cache(maxsize=2)
def _survivors(u2: Tally, uploads: tuple[tuple[int, Upload], ...]) -> Survivors:
    said = dict(uploads)
    return Survivors(tuple(Survivor(number, digest, said[number].signature) for number, digest in u2))


@lru_cache(maxsize=2)
def quorum(certified: Signatures, alive: Members, dropped: Members) -> Quorum:
    """Return the agree signatures, and for whom which kind of share is asked; made once, too."""
    return Quorum(certified, alive, dropped)


def agreed(book: Book, number: int, agree: Agree) -> Book:
    """Return the book with one more agreement.  Raises WrongPhase, BadSignature."""
    name = book.roster.name(number)
    if number not in book.survivors:
        raise WrongPhase(
            "agreeing without this client, whose upload was not complete in time", "an agreement"
        )
    if not statement(book.ctx, book.u1, book.u2).signed(book.roster.identity(number), agree.signature):
        raise BadSignature(f'the agreement of "{name}" is not signed over these very sets', name)
    return replace(book, agreements=(*book.agreements, (number, agree.signature)))
