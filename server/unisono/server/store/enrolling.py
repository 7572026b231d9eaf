"""Named transactions of enrolment: tokens, clients, certificates.  What they decide, they decide inside.

A token is struck off in the transaction that enrols its bearer, so it works as often as it says, however many
ask at once.  The bearer is known by its signing key: who asks again with it, because the first answer was
lost, gets the same answer and uses nothing up.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from unisono.base.errors import BadCredentials, NotFound, Refused
from unisono.base.ids import ClientName, Digest

from . import audit, schema
from .canonical import canonical

_CLIENTS, _TOKENS = schema.clients, schema.tokens
_CERTIFICATES, _REDEMPTIONS = schema.certificates, schema.redemptions


@dataclass(frozen=True, slots=True)
class Token:
    """What may be known of a join token after it was given away."""

    serial: str
    name: str
    uses: int
    used: int
    created: float
    not_after: float
    by: str
    revoked: float | None


@dataclass(frozen=True, slots=True)
class Client:
    """A client as the federation knows it."""

    name: ClientName
    number: int
    enrolled: bool
    reason: str  # of the latest revocation
    revoked: float | None  # when that was; stays when the client is enrolled again
    enrolled_wall: float
    signing_certificate: str
    signing_spki_sha256: Digest
    tls_serial: str
    tls_not_after: float | None
    software: str
    last_seen: float | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A TLS certificate that was issued and not revoked."""

    serial: str
    kind: str
    name: str
    issued: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Enrolling:
    """One transaction at one moment."""

    connection: sa.Connection
    wall: float

    def add_token(self, serial: str, name: str, uses: int, not_after: float, by: str) -> None:
        """Record a token; with more than one use, `name` is a prefix."""
        self.connection.execute(
            _TOKENS.insert().values(
                serial=serial,
                name=name,
                uses=uses,
                numbered=uses > 1,
                created_wall=self.wall,
                not_after=not_after,
                created_by=by,
            )
        )
        told = {"serial": serial, "uses": uses, "not_after": not_after, "by": by}
        self._tell("token_created", name, told)

    def redeem(self, serial: str, spki: Digest) -> tuple[ClientName, int]:
        """Enrol the bearer of a token.  Raises BadCredentials and changes nothing."""
        token = self.connection.execute(sa.select(_TOKENS).where(_TOKENS.c.serial == serial)).first()
        if token is None:
            raise BadCredentials("token unknown to this federation: ask its operator for a new one")
        if token.revoked_wall is not None:
            raise BadCredentials("token revoked: ask the operator of the federation for a new one")
        if (again := self._redeemed(serial, spki)) is not None:
            return again
        if token.used >= token.uses:
            raise BadCredentials("token used already: ask the operator of the federation for a new one")
        if self.wall >= token.not_after:
            raise BadCredentials("token expired: ask the operator of the federation for a new one")
        client = self._free_name(token.name, token.used + 1) if token.numbered else ClientName(token.name)
        number = self._enrol(client, spki, serial)
        self.connection.execute(
            _TOKENS.update().where(_TOKENS.c.serial == serial).values(used=token.used + 1)
        )
        self.connection.execute(
            _REDEMPTIONS.insert().values(serial=serial, spki_sha256=spki, client=client, wall=self.wall)
        )
        return client, number

    def record(self, kind: str, name: str, serial: str, not_after: float) -> None:
        """Record a TLS certificate before it is given away."""
        self.connection.execute(
            _CERTIFICATES.insert().values(
                serial=serial, kind=kind, name=name, issued_wall=self.wall, not_after=not_after
            )
        )
        if kind == "client":
            latest = _CLIENTS.update().where(_CLIENTS.c.name == name)
            self.connection.execute(latest.values(tls_serial=serial, tls_not_after=not_after))
        told = {"kind": kind, "serial": serial, "not_after": not_after}
        self._tell("certificate_issued", name, told)

    def record_signing(self, name: str, certificate: str) -> None:
        """Record a client's signing certificate (PEM), which its peers will ask for."""
        query = _CLIENTS.update().where(_CLIENTS.c.name == name)
        self.connection.execute(query.values(signing_certificate=certificate))

    def revoke(self, name: str, reason: str, by: str) -> None:
        """Revoke a client, its certificates and every token for its name; or all tokens with this prefix."""
        client = self._client(name)
        values = {"revoked_wall": self.wall}
        live = (_TOKENS.c.name == name, _TOKENS.c.revoked_wall.is_(None))
        tokens = self.connection.execute(_TOKENS.update().where(*live).values(values)).rowcount
        if client is None and not tokens:
            raise NotFound(f"there is no client and no open token {name!r}; list them with: unisono clients")
        if client is not None:
            gone = _CLIENTS.update().where(_CLIENTS.c.name == name)
            self.connection.execute(gone.values(**values, state="revoked", revoke_reason=reason))
            issued = (_CERTIFICATES.c.name == name, _CERTIFICATES.c.kind == "client")
            self.connection.execute(
                _CERTIFICATES.update().where(*issued, _CERTIFICATES.c.revoked_wall.is_(None)).values(values)
            )
        self._tell("revoked", name, {"reason": reason, "by": by, "tokens": tokens})

    def revoke_operator(self, name: str, reason: str, by: str, *, force: bool) -> tuple[int, int]:
        """Revoke an operator's certificates and the open tokens that it made; return how many of each.

        Raises NotFound, and Refused without `force` if no operator would be left: nobody could undo it then.
        """
        c, t = _CERTIFICATES.c, _TOKENS.c
        valid = sa.select(c.name).where(c.kind == "admin", c.revoked_wall.is_(None), c.not_after > self.wall)
        names = set(self.connection.scalars(valid))
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise NotFound(f"no operator {name!r} has a valid certificate; those who have: {known}")
        if names == {name} and not force:
            raise Refused(
                f"{name!r} has the last valid operator's certificate: nobody could operate this federation\n"
                "  with --force it is done; then stop the coordinator, move DIR/admin away, "
                "and make it anew there: unisono init DIR --host HOST"
            )
        values = {"revoked_wall": self.wall}
        mine = (c.kind == "admin", c.name == name, c.revoked_wall.is_(None))
        gone = self.connection.execute(_CERTIFICATES.update().where(*mine).values(values)).rowcount
        made = (t.created_by == name, t.used < t.uses, t.not_after > self.wall, t.revoked_wall.is_(None))
        tokens = self.connection.execute(_TOKENS.update().where(*made).values(values)).rowcount
        told = {"reason": reason, "by": by, "certificates": gone, "tokens": tokens}
        self._tell("operator_revoked", name, told)
        return gone, tokens

    def seen(self, name: str, software: str) -> None:
        """Note that a client said hello.  Not audited: it changes nothing that anybody may do."""
        query = _CLIENTS.update().where(_CLIENTS.c.name == name)
        self.connection.execute(query.values(software=software, last_seen_wall=self.wall))

    def _redeemed(self, serial: str, spki: Digest) -> tuple[ClientName, int] | None:
        found = self.connection.execute(
            sa.select(_CLIENTS.c.name, _CLIENTS.c.number)
            .join(_REDEMPTIONS, _REDEMPTIONS.c.client == _CLIENTS.c.name)
            .where(_REDEMPTIONS.c.serial == serial, _REDEMPTIONS.c.spki_sha256 == spki)
        ).first()
        return None if found is None else (ClientName(found.name), found.number)

    def _free_name(self, prefix: str, first: int) -> ClientName:
        """Return the first of prefix-N that is free: another token may have had the same prefix."""
        number = first
        while self._client(f"{prefix}-{number}") is not None:
            number += 1
        return ClientName(f"{prefix}-{number}")

    def _enrol(self, name: ClientName, spki: Digest, serial: str) -> int:
        old = self._client(name)
        told: dict[str, object] = {"token": serial, "signing_spki_sha256": spki}
        if old is None:
            number: int = (self.connection.scalar(sa.select(sa.func.max(_CLIENTS.c.number))) or 0) + 1
            new = {"name": name, "number": number, "enrolled_wall": self.wall}
            self.connection.execute(
                _CLIENTS.insert().values(**new, state="enrolled", signing_spki_sha256=spki)
            )
            self._tell("enrolled", name, told | {"number": number})
            return number
        again = _CLIENTS.update().where(_CLIENTS.c.name == name)
        self.connection.execute(again.values(state="enrolled", signing_spki_sha256=spki))
        was = {"was_revoked": old.state == "revoked", "previous_spki_sha256": old.signing_spki_sha256}
        self._tell("enrolled_again", name, told | was)
        return int(old.number)

    def _client(self, name: str) -> sa.Row[Any] | None:
        return self.connection.execute(sa.select(_CLIENTS).where(_CLIENTS.c.name == name)).first()

    def _tell(self, kind: str, subject: str, body: dict[str, object]) -> None:
        audit.append(self.connection, self.wall, audit.Entry(kind, subject, body=canonical(body)))


def figures(connection: sa.Connection) -> tuple[int, int, float | None]:
    """Return how many clients are enrolled, how many revoked, and when the first certificate in use ends."""
    here = _CLIENTS.c.state == "enrolled"
    total = sa.select(sa.func.count(), sa.func.min(_CLIENTS.c.tls_not_after))
    enrolled, first = connection.execute(total.where(here)).one()
    revoked = connection.scalar(sa.select(sa.func.count()).where(~here)) or 0
    return enrolled, revoked, first


def clients(connection: sa.Connection, name: str | None) -> tuple[Client, ...]:
    """Return all clients, or the one of that name, by their numbers; revoked ones too."""
    query = sa.select(_CLIENTS).order_by(_CLIENTS.c.number)
    if name is not None:
        query = query.where(_CLIENTS.c.name == name)
    return tuple(
        Client(
            name=ClientName(row.name),
            number=row.number,
            enrolled=row.state == "enrolled",
            reason=row.revoke_reason,
            revoked=row.revoked_wall,
            enrolled_wall=row.enrolled_wall,
            signing_certificate=row.signing_certificate,
            signing_spki_sha256=Digest(row.signing_spki_sha256),
            tls_serial=row.tls_serial,
            tls_not_after=row.tls_not_after,
            software=row.software,
            last_seen=row.last_seen_wall,
        )
        for row in connection.execute(query)
    )


def tokens(connection: sa.Connection) -> tuple[Token, ...]:
    """Return all tokens, the newest first."""
    c = _TOKENS.c
    columns = (c.serial, c.name, c.uses, c.used, c.created_wall, c.not_after, c.created_by, c.revoked_wall)
    rows = connection.execute(sa.select(*columns).order_by(c.created_wall.desc(), c.serial))
    return tuple(Token(*row) for row in rows)


def certificates(connection: sa.Connection, name: str | None) -> tuple[Certificate, ...]:
    """Return the certificates that were issued and not revoked: all, or those with a name."""
    c = _CERTIFICATES.c
    query = sa.select(c.serial, c.kind, c.name, c.issued_wall, c.not_after).where(c.revoked_wall.is_(None))
    if name is not None:
        query = query.where(c.name == name)
    return tuple(Certificate(*row) for row in connection.execute(query))
