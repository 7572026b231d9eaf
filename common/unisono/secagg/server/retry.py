"""When may another attempt ask for another sum?  The clients' own rule (row 5), kept before they refuse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unisono.base.ids import ClientName
from unisono.secagg.shared.certificates import AbandonCertificate, AgreeCertificate

from .abandon import Closing
from .faults import AttemptOpen
from .stage import Stage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of an earlier attempt: who signed an upload, and what certificates there are."""

    attempt: int
    ctx: bytes
    uploaded: tuple[ClientName, ...]
    survivors: tuple[ClientName, ...]  # certified; empty if no set is
    agreed: AgreeCertificate | None
    abandoned: AbandonCertificate | None
    clients: int = 0  # of the roster: a repeat needs as many, for an equal spec

    @classmethod
    def of(cls, stage: Stage) -> "Outcome":
        """Return it for an attempt that is over, at whatever stage it was left."""
        book = stage.book
        names: tuple[ClientName, ...] = ()
        uploaded: tuple[ClientName, ...] = ()
        clients = 0
        if book.frozen is not None:
            clients = len(book.roster.entries)
            uploaded = book.roster.names(tuple(sorted(number for number, _ in book.uploads)))
            names = book.roster.names(book.survivors)
        agreed = book.certificate
        abandoned = stage.certificate if isinstance(stage, Closing) else None
        which = book.setup.attempt.attempt
        return cls(which, book.ctx, uploaded, names if agreed else (), agreed, abandoned, clients)

    def holds(self, client: ClientName) -> bool:
        """Tell whether a sum with this client in it may still be opened."""
        if self.abandoned is not None or client not in self.uploaded:
            return False
        return self.agreed is None or client in self.survivors

    @property
    def certificate(self) -> AbandonCertificate | AgreeCertificate | None:
        """What the invitation to the next attempt shows."""
        return self.abandoned if self.abandoned is not None else self.agreed


def check_retry(outcomes: Iterable[Outcome], cohort: Sequence[ClientName]) -> tuple[ClientName, ...]:
    """Return the survivors that a new attempt has to repeat (`Setup.only`); () if it is free.

    Raises:
        AttemptOpen: somebody of the cohort would have to refuse; says who, and what would close it.

    """
    bound: set[tuple[ClientName, ...]] = set()
    for outcome in outcomes:
        still = [client for client in cohort if outcome.holds(client)]
        if not still:
            continue
        if outcome.agreed is None:
            raise AttemptOpen(
                f"attempt {outcome.attempt} may still be opened for {', '.join(still)}; it has to be "
                "abandoned by enough of its clients before they can be asked for another sum"
            )
        bound.add(outcome.survivors)
    if not bound:
        return ()
    only = bound.pop()
    if bound or not set(only) <= set(cohort):
        away = ", ".join(sorted(set(only) - set(cohort))) or "another set"
        raise AttemptOpen(f"an open attempt can only be repeated with the same survivors; missing: {away}")
    return only
