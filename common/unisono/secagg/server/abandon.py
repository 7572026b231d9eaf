"""Closing an attempt, so that another one may ask the same clients for another sum."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.errors import WrongPhase
from unisono.base.ids import ClientName
from unisono.secagg.shared.certificates import AbandonCertificate
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.messages import Abandon
from unisono.secagg.shared.messages import Closing as Request
from unisono.secagg.shared.statements import Members
from unisono.secagg.shared.statements import abandon as statement

from .faults import BadSignature
from .stage import Record, Stage, Step


@dataclass(frozen=True, slots=True)
class Closeable(Stage):
    """A stage with a context: it can be closed."""

    def close(self) -> Step:
        return Step(Closing(self.book), Record("close"))


@dataclass(frozen=True, slots=True)
class Closing(Stage, kind="server/closing"):
    """Nothing is opened any more.  Done when `certificate` is there; until then the attempt counts as open.

    Whoever has the roster and the model can sign, also one that never shared: the request goes out with both.
    """

    phase: ClassVar[str] = "closing"

    def abandon(self, client: ClientName, abandon: Abandon) -> Step:
        book = self.book
        number = book.number(client, "an abandon statement")
        if number in dict(book.abandons):
            return Stage.abandon(self, client, abandon)
        if number in dict(book.answers):
            raise WrongPhase("closing: this client has revealed its shares", "an abandon statement")
        if not statement(book.ctx).signed(book.roster.identity(number), abandon.signature):
            raise BadSignature(f'the abandon statement of "{client}" is not signed for this context', client)
        stage = replace(self, book=replace(book, abandons=(*book.abandons, (number, abandon.signature))))
        return Step(stage, Record("abandon", client, abandon.encode()))

    @property
    def certificate(self) -> AbandonCertificate | None:
        """The proof, once enough have signed."""
        if len(self.book.abandons) < self.book.roster.spec.terms.closing:
            return None
        return AbandonCertificate(self.book.ctx, tuple(sorted(self.book.abandons)))

    def message_for(self, client: ClientName) -> Coded | None:
        return Request(self.book.model) if client in self.waiting_for() else None

    def waiting_for(self) -> tuple[ClientName, ...]:
        if self.certificate is not None:
            return ()
        everybody: Members = tuple(range(1, len(self.book.roster.entries) + 1))
        silent = self.book.abandons, self.book.answers
        done = {number for rows in silent for number, _ in rows}
        return self.book.roster.names(tuple(number for number in everybody if number not in done))
