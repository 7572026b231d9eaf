"""The federation's certificate authority: a P-256 key that signs end certificates only."""

import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, Self, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from unisono.base.errors import BadConfiguration, BadCredentials, Corrupt
from unisono.base.ids import is_name
from unisono.crypto import TlsKey

from . import certificates as read
from .checks import check_dates, check_key
from .requests import request, signing_key, tls_key

DAY = 86400.0
YEARS_10 = 3650 * DAY
COORDINATOR = "coordinator"  # there is one; its certificates need no other name
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*(?!\d+$){_LABEL}")  # RFC 1123, section 2.1; 10.0.0.300 is no name

_Public: TypeAlias = ec.EllipticCurvePublicKey | Ed25519PublicKey | X25519PublicKey
_Use: TypeAlias = Literal["client", "server", "sign", "agree", "issue"]
_EXTENDED: Final = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates.  A life counts from `now`, wall seconds, and ends with the CA's own at the latest.

    Every name is an argument, decided by the caller (a token, the operator); a request gives a key only.
    """

    _key: TlsKey = field(repr=False)
    _certificate: x509.Certificate

    @classmethod
    def create(cls, federation: str, now: float) -> Self:
        """Make the CA of a new federation, for ten years."""
        _check_name(federation, "federation")
        key = TlsKey.generate()
        public, name = key.private.public_key(), _name(federation)
        builder = _builder(public, name, now, now + YEARS_10).issuer_name(name)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage("issue"), critical=True)
        return cls(key, builder.sign(key.private, hashes.SHA256()))

    @classmethod
    def from_pem(cls, key_pem: bytes, certificate_pem: bytes) -> Self:
        """Read what `key_pem` and `certificate_pem` gave.  Raises BadCredentials."""
        try:
            key = TlsKey.from_pem(key_pem)
        except Corrupt as error:
            raise BadCredentials(f"the CA's key cannot be read: {error}") from None
        check_key(key, certificate_pem)
        return cls(key, read.load_ca(certificate_pem))

    @property
    def key_pem(self) -> bytes:
        return self._key.to_pem()

    @property
    def certificate_pem(self) -> bytes:
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def federation(self) -> str:
        return read.common_name(self._certificate.subject)

    def issue_server(self, csr_pem: bytes, hosts: Sequence[str], now: float, life: float = 90 * DAY) -> bytes:
        """Certify the coordinator's TLS key for exactly these DNS names and IP addresses."""
        if not hosts:
            raise BadConfiguration("the coordinator's certificate needs a host name that clients connect to")
        names = [_host(host) for host in dict.fromkeys(hosts)]
        return self._issue(tls_key(csr_pem), "server", _uri("coordinator", COORDINATOR), (now, life), names)

    def issue_tls(
        self, csr_pem: bytes, kind: Literal["client", "admin"], name: str, now: float, life: float
    ) -> bytes:
        """Certify the TLS key of a client or an administrator."""
        return self._issue(tls_key(csr_pem), "client", _uri(kind, name), (now, life))

    def issue_signing(self, csr_pem: bytes, name: str, now: float, life: float = YEARS_10) -> bytes:
        """Certify a site's Ed25519 key, its identity."""
        return self._issue(signing_key(csr_pem), "sign", _uri(read.SIGNER, name), (now, life))

    def issue_sealing(self, public: bytes, now: float, life: float = YEARS_10) -> bytes:
        """Certify the coordinator's X25519 key.  There is no request: such a key cannot sign one."""
        try:
            key = X25519PublicKey.from_public_bytes(public)
        except ValueError:
            raise BadCredentials(f"an X25519 public key has 32 bytes, not {len(public)}") from None
        return self._issue(key, "agree", _uri(read.SEALING, COORDINATOR), (now, life))

    def issue_receipts(self, public: bytes, now: float, life: float = YEARS_10) -> bytes:
        """Certify the coordinator's Ed25519 key, with which it signs receipts and nothing else."""
        key = Ed25519PublicKey.from_public_bytes(public)
        return self._issue(key, "sign", _uri(read.RECEIPTS, COORDINATOR), (now, life))

    def issue_bootstrap(self, name: str, now: float, life: float) -> tuple[bytes, TlsKey]:
        """Make the short-lived certificate and key that a join token carries."""
        key = TlsKey.generate()
        return self._issue(tls_key(request(key)), "client", _uri("bootstrap", name), (now, life)), key

    def _issue(
        self,
        public: _Public,
        use: _Use,
        uri: x509.UniformResourceIdentifier,
        period: tuple[float, float],
        hosts: Sequence[x509.GeneralName] = (),
    ) -> bytes:
        now, life = period
        check_dates(self._certificate, now, read.describe(self._certificate), "set the federation up again")
        end = min(now + life, read.end_of(self._certificate))
        builder = _builder(public, _name(uri.value.rsplit("/", 1)[1]), now, end)
        builder = builder.issuer_name(self._certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(use), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([*hosts, uri]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.private.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if use in _EXTENDED:
            builder = builder.add_extension(x509.ExtendedKeyUsage([_EXTENDED[use]]), critical=False)
        return builder.sign(self._key.private, hashes.SHA256()).public_bytes(Encoding.PEM)


def _builder(public: _Public, name: x509.Name, now: float, end: float) -> x509.CertificateBuilder:
    """Begin a certificate.  X.509 knows whole seconds: the start is rounded down, the end up."""
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(math.floor(now - read.BACKDATED), UTC))
        .not_valid_after(datetime.fromtimestamp(math.ceil(end), UTC))
    )


def _usage(use: _Use) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=use in {"client", "server", "sign"},
        key_agreement=use == "agree",
        key_cert_sign=use == "issue",
        crl_sign=use == "issue",
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _uri(kind: str, name: str) -> x509.UniformResourceIdentifier:
    _check_name(name, kind)
    return x509.UniformResourceIdentifier(f"{read.SCHEME}{kind}/{name}")


def _check_name(name: str, what: str) -> None:
    if not is_name(name):
        rule = "use 1 to 63 of a-z 0-9 . _ - with a letter or digit at both ends"
        raise BadConfiguration(f'"{name}" cannot name a {what}: {rule}')


def _host(host: str) -> x509.GeneralName:
    """Read a host name or an IP address, without scheme and port."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if len(host) > 253 or _HOST.fullmatch(host.lower()) is None:
            advice = "write it without scheme and port, for example fl.example.org"
            raise BadConfiguration(f'"{host}" is not a host name or an IP address; {advice}') from None
    return x509.DNSName(host.lower())
