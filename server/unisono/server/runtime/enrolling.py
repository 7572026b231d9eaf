"""Turns join tokens into certificates, and old certificates into new ones."""

from typing import Literal

from unisono.base.errors import BadCredentials
from unisono.identity import Peer, peer_of
from unisono.server.enrolment import Enrolled

from .hall import Hall


class Enrolling:
    """Issues certificates for clients and operators."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    async def enrol(self, peer: Peer, tls_csr: bytes, signing_csr: bytes, software: str) -> Enrolled:
        """Redeem a join token.  Raises BadCredentials if it is used up."""
        hall, now = self._hall, self._hall.clock.wall()
        life = hall.config.client_certificate_life
        return await hall.workers.database(
            hall.ledger.enrol, peer.serial, hall.authority, tls_csr, signing_csr, software[:64], now, life
        )

    async def usable(self, peer: Peer) -> tuple[str, float]:
        """Return federation and wall time if this token lets one more client in; nothing is used up.

        Raises BadCredentials, as `enrol` would.
        """
        hall = self._hall
        found = {token.serial: token for token in await hall.workers.database(hall.store.tokens)}
        token = found.get(peer.serial)
        if token is None or token.revoked is not None:
            raise BadCredentials(
                "token revoked, or unknown to this federation: ask its operator for a new one"
            )
        if token.used >= token.uses:
            raise BadCredentials("token used already: ask the operator of the federation for a new one")
        return hall.authority.federation, hall.clock.wall()

    async def renew(self, peer: Peer, tls_csr: bytes) -> bytes:
        """Certify a new key for an identity that is still valid."""
        hall, now = self._hall, self._hall.clock.wall()
        config = hall.config
        kind: Literal["client", "admin"] = "client" if peer.kind == "client" else "admin"
        life = config.client_certificate_life if kind == "client" else config.admin_certificate_life
        certificate = hall.authority.issue_tls(tls_csr, kind, peer.name, now, life)
        await hall.workers.database(hall.ledger.renewed, peer, peer_of(certificate), now)
        return certificate
