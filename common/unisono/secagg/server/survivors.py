"""U2 as it is shown and signed: in leg 3, and in leg 4 for those who come late."""

from dataclasses import replace

from unisono.base.errors import WrongPhase
from unisono.secagg.shared.messages import Agree, Survivor, Survivors
from unisono.secagg.shared.statements import agree as statement

from .book import Book
from .faults import BadSignature


def survivors(book: Book) -> Survivors:
    """Return U2 with the upload statement of each member."""
    uploads = dict(book.uploads)
    return Survivors(tuple(Survivor(n, digest, uploads[n].signature) for n, digest in book.u2))


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
