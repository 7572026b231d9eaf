"""Makes clients of tokens, and answers the question of every call: may this identity still do this.

The answer comes from memory, in constant time; the database is read at the start and when something changes.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from unisono.base.errors import BadConfiguration, NotEnrolled
from unisono.base.ids import ClientName, is_name
from unisono.identity import Authority, Peer, peer_of, requested_spki
from unisono.identity.requests import tls_key

from .records import Client, Records

MOST_USES = 100_000
_LATE = 10 * 86_400.0  # renew this long before the end if we do not know when the life began


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a site gets for its token."""

    name: ClientName
    number: int
    tls_certificate: bytes
    signing_certificate: bytes
    federation: str


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a call is judged by."""

    number: int
    enrolled: bool
    refusal: str  # if it is not enrolled
    revoked_before: bool
    issued: dict[str, float] = field(default_factory=dict)  # valid serial -> when


class Ledger:
    """The members of a federation.  Any thread may ask; changes are made by one, the database's."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._standing: dict[str, _Standing] = {}
        self._operators: dict[str, dict[str, float]] = {}  # name -> its valid serials -> when
        self._load(None)

    # Asked on every call

    def allow(self, peer: Peer) -> None:
        """Raise NotEnrolled if this identity is unknown or revoked.

        A token's bearer is let in to ask for enrolment, where the token itself is judged.  Once a name was
        revoked, only certificates issued to it since count: the old ones may be in other hands.  Of operators
        only those count that are in the book, because each may do everything.
        """
        if peer.kind == "bootstrap":
            return
        if peer.kind == "admin":
            if peer.serial not in self._operators.get(peer.name, ()):
                raise NotEnrolled(
                    f"this certificate of operator '{peer.name}' was revoked, or was never issued here"
                )
            return
        standing = self._standing.get(peer.name) if peer.kind == "client" else None
        if standing is None:
            raise NotEnrolled(f"{peer.kind} '{peer.name}' is not enrolled in this federation")
        if not standing.enrolled:
            raise NotEnrolled(standing.refusal)
        if standing.revoked_before and peer.serial not in standing.issued:
            raise NotEnrolled(f"this certificate of client '{peer.name}' was revoked; it has a newer one")

    def enrolled(self) -> int:
        """Return the number of enrolled clients."""
        return sum(standing.enrolled for standing in self._standing.values())

    def number(self, client: ClientName) -> int:
        """Return a client's number: 1, 2, ... in the order of enrolment.  Raises NotEnrolled."""
        standing = self._standing.get(client)
        if standing is None:
            raise NotEnrolled(f"client '{client}' is not enrolled in this federation")
        return standing.number

    def renewal_due(self, peer: Peer, wall: float) -> bool:
        """Tell whether two thirds of the life of the certificate in use are over."""
        standing = self._standing.get(peer.name) if peer.kind == "client" else None
        serials = standing.issued if standing is not None else self._operators.get(peer.name, {})
        issued = serials.get(peer.serial)
        if issued is None:
            return wall >= peer.not_after - _LATE
        return wall >= issued + (peer.not_after - issued) * 2 / 3

    # Changes

    def create_token(self, certificate: bytes, name: str, uses: int, by: str, now: float) -> None:
        """Write down the bootstrap certificate of a token before it is given away.

        Raises BadConfiguration for a name that no client may have.
        """
        if not 1 <= uses <= MOST_USES:
            raise BadConfiguration(f"a token has 1 to {MOST_USES} uses, not {uses}")
        longest = name if uses == 1 else f"{name}-{MOST_USES}"
        if not is_name(longest):
            raise BadConfiguration(
                f"{name!r} cannot name a client: lower-case letters, digits, '.', '_' and '-', "
                "beginning and ending with a letter or digit, at most 63 with the number of a numbered one"
            )
        peer = peer_of(certificate)
        self._records.add_token(peer.serial, name, uses, peer.not_after, by, now)

    def enrol(  # noqa: PLR0913, PLR0917 - all that an enrolment needs
        self,
        serial: str,
        authority: Authority,
        tls_csr: bytes,
        signing_csr: bytes,
        software: str,
        now: float,
        life: float,
    ) -> Enrolled:
        """Redeem the token with this serial, and certify the site's keys.  Raises BadCredentials.

        Requests that do not parse use nothing up.  Asked again with the same signing key, because the answer
        was lost, it gives the same name and new certificates.
        """
        tls_key(tls_csr)
        name, number = self._records.redeem(serial, requested_spki(signing_csr), now)
        self._load(name)
        if not self._standing[name].enrolled:
            raise NotEnrolled(self._standing[name].refusal)
        tls = authority.issue_tls(tls_csr, "client", name, now, life)
        signing = authority.issue_signing(signing_csr, name, now)
        self._records.record_signing(name, signing.decode("ascii"), now)
        self._records.seen(name, software, now)
        self.issued(peer_of(tls), now)
        return Enrolled(name, number, tls, signing, authority.federation)

    def renewed(self, old: Peer, new: Peer, now: float) -> None:
        """Write down a certificate that `old` asked for.  Raises NotEnrolled if that was revoked since."""
        self.allow(old)
        self.issued(new, now)

    def issued(self, peer: Peer, now: float) -> None:
        """Write down a TLS certificate before it is given away: of a client, or of an operator.

        Raises NotEnrolled to a client that was revoked while it waited: what it got now would count again
        as soon as its name is enrolled anew.
        """
        standing = self._standing.get(peer.name) if peer.kind == "client" else None
        if standing is not None and not standing.enrolled:
            raise NotEnrolled(standing.refusal)
        self._records.record(peer.kind, peer.name, peer.serial, peer.not_after, now)
        self._load(peer.name)

    def revoke(self, name: str, reason: str, by: str, wall: float) -> None:
        """Refuse a client from now on, and every token for its name.  Raises NotFound."""
        self._records.revoke(name, reason, by, wall)
        self._load(name)

    def revoke_operator(
        self, name: str, reason: str, by: str, wall: float, *, force: bool
    ) -> tuple[int, int]:
        """Refuse an operator's certificates and the open tokens that it made; return how many of each.

        Raises NotFound, and Refused without `force` if nobody could operate the federation then.
        """
        gone = self._records.revoke_operator(name, reason, by, wall, force=force)
        self._load(name)
        return gone

    def _load(self, name: str | None) -> None:
        """Read what is written of one name, or of all.  A caller sees an old standing or the new one."""
        issued: dict[str, dict[str, float]] = {}
        operators: dict[str, dict[str, float]] = {} if name is None else {name: {}}
        for certificate in self._records.certificates(name):
            mine = issued if certificate.kind == "client" else operators
            mine.setdefault(certificate.name, {})[certificate.serial] = certificate.issued
        self._operators.update(operators)
        for client in self._records.clients(name):
            self._standing[client.name] = _standing(client, issued.get(client.name, {}))


def _standing(client: Client, issued: dict[str, float]) -> _Standing:
    refusal = ""
    if not client.enrolled:
        when = datetime.fromtimestamp(client.revoked or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        refusal = f"client '{client.name}' was revoked ({client.reason or 'no reason given'}) on {when}"
    return _Standing(client.number, client.enrolled, refusal, client.revoked is not None, issued)
