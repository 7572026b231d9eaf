"""What the ledger needs from durable storage: each method one transaction, with its audit line."""

from collections.abc import Sequence
from typing import Protocol

from unisono.base.ids import ClientName, Digest


class Client(Protocol):
    """A client as it is written down."""

    @property
    def name(self) -> ClientName: ...
    @property
    def number(self) -> int: ...
    @property
    def enrolled(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def revoked(self) -> float | None: ...


class Certificate(Protocol):
    """A TLS certificate that was issued and not revoked."""

    @property
    def serial(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def issued(self) -> float: ...


class Records(Protocol):
    """The book itself; `unisono.server.store.Store` is one."""

    def add_token(self, serial: str, name: str, uses: int, not_after: float, by: str, wall: float) -> None:
        """Write a token down; with more than one use, `name` is a prefix."""
        ...

    def redeem(self, serial: str, spki: Digest, wall: float) -> tuple[ClientName, int]:
        """Use a token up for the bearer of a signing key; the same bearer again uses nothing up."""
        ...

    def record(self, kind: str, name: str, serial: str, not_after: float, wall: float) -> None:
        """Write a TLS certificate down."""
        ...

    def record_signing(self, name: str, certificate: str, wall: float) -> None:
        """Write a client's signing certificate down."""
        ...

    def revoke(self, name: str, reason: str, by: str, wall: float) -> None:
        """Revoke a client with its certificates and tokens."""
        ...

    def revoke_operator(
        self, name: str, reason: str, by: str, wall: float, *, force: bool
    ) -> tuple[int, int]:
        """Revoke an operator's certificates and the open tokens that it made; return how many of each."""
        ...

    def seen(self, name: str, software: str, wall: float) -> None:
        """Write down that a client said hello."""
        ...

    def clients(self, name: str | None = None) -> Sequence[Client]:
        """Return all clients, or the one of that name."""
        ...

    def certificates(self, name: str | None = None) -> Sequence[Certificate]:
        """Return all certificates, or those with a name."""
        ...
