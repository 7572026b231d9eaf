"""Two proofs that outlive an attempt: which set was certified, and that nothing will ever be opened."""

from collections.abc import Callable
from dataclasses import dataclass

from .encoding import Coded
from .messages import Signatures
from .statements import Members, Statement, Tally, abandon, agree
from .terms import Terms

Identity = Callable[[int], bytes | None]  # a client's number to the key that signs for it


@dataclass(frozen=True, slots=True)
class AgreeCertificate(Coded, kind="agree-certificate"):
    """q members of U2 agreed on it.  Two for one context cannot exist."""

    ctx: bytes
    u1: Members
    u2: Tally
    signatures: Signatures

    def holds(self, identity: Identity, terms: Terms) -> bool:
        """Tell whether at least q distinct members of U2 signed exactly this."""
        members = tuple(number for number, _ in self.u2)
        statement = agree(self.ctx, self.u1, self.u2)
        return signers(statement, self.signatures, identity, members) >= terms.threshold


@dataclass(frozen=True, slots=True)
class AbandonCertificate(Coded, kind="abandon-certificate"):
    """n + c - t + 1 clients of the roster will never open this context: t shares can never meet."""

    ctx: bytes
    signatures: Signatures

    def holds(self, identity: Identity, terms: Terms) -> bool:
        """Tell whether enough distinct members of the roster signed."""
        everybody = tuple(range(1, terms.clients + 1))
        return signers(abandon(self.ctx), self.signatures, identity, everybody) >= terms.closing


def signers(statement: Statement, signatures: Signatures, identity: Identity, allowed: Members) -> int:
    """Count the distinct `allowed` clients with a valid signature; others and repeats do not count."""
    by = {number: signature for number, signature in signatures if number in allowed}
    return sum(statement.signed(identity(number), signature) for number, signature in by.items())
