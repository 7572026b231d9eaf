"""A new TLS certificate with a new key, over the connection of the old one, even in the middle of a run."""

from pathlib import Path
from typing import Protocol

from unisono.crypto import TlsKey
from unisono.identity import check_issued, check_key, peer_of, renewal_due, request

from .files import swap_pair


class Renewer(Protocol):
    """What renewal needs of a connection."""

    def renew(self, csr: bytes) -> bytes:
        """Return a certificate for the key of `csr`.  Raises our errors."""
        ...


def due(folder: Path, wall: float, stem: str = "tls") -> bool:
    """Tell whether two thirds of the certificate's life are over."""
    return renewal_due((folder / f"{stem}.pem").read_bytes(), wall)


def renew(link: Renewer, folder: Path, wall: float, stem: str = "tls") -> float:
    """Replace STEM.key and STEM.pem; return until when the new certificate is valid (wall).

    The connection stays with the old one: open it again.  Raises BadCredentials if what was issued is not
    for this key or not of this federation; the old pair then stays.
    """
    key = TlsKey.generate()
    certificate = link.renew(request(key))
    check_issued(certificate, (folder / "ca.pem").read_bytes(), wall)
    check_key(key, certificate)
    swap_pair(folder, stem, key.to_pem(), certificate)
    return peer_of(certificate).not_after
