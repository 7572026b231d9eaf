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
        needed = terms.threshold
        return signers(statement, self.signatures, identity, members, needed) == needed


@dataclass(frozen=True, slots=True)
class AbandonCertificate(Coded, kind="abandon-certificate"):
    """n + c - t + 1 clients of the roster will never open this context: t shares can never meet."""

    ctx: bytes
    signatures: Signatures

    def holds(self, identity: Identity, terms: Terms) -> bool:
        """Tell whether enough distinct members of the roster signed."""
        everybody = tuple(range(1, terms.clients + 1))
        needed = terms.closing
        return signers(abandon(self.ctx), self.signatures, identity, everybody, needed) == needed


def signers(
    statement: Statement, signatures: Signatures, identity: Identity, allowed: Members, needed: int
) -> int:
    """Count the distinct `allowed` clients with a valid signature, up to `needed`; nobody counts twice."""
    found: set[int] = set()
    for number, signature in signatures:
        if len(found) == needed:
            break
        if number in allowed and number not in found and statement.signed(identity(number), signature):
            found.add(number)
    return len(found)
