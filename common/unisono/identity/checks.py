"""Saying precisely what is wrong with a certificate, and what to do.  Every check raises BadCredentials."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from unisono.base.errors import BadCredentials
from unisono.base.ids import Digest
from unisono.crypto import SigningKey, TlsKey

from . import certificates as read


@dataclass(frozen=True, slots=True)
class Signer:
    """A site's certified identity."""

    name: str
    public: bytes  # Ed25519, 32 bytes
    fingerprint: Digest  # of the key: what others pin


def check_issued(certificate_pem: bytes, ca_pem: bytes, now: float) -> None:
    """Check that this CA issued the certificate and that both are valid at `now`, wall seconds."""
    certificate, ca = read.load(certificate_pem), read.load_ca(ca_pem)
    check_issuer(certificate, ca)
    check_dates(ca, now, read.describe(ca), "the federation must be set up again")
    kind = read.subject(certificate)[0]
    advice = "join again with a new token, the name and the identity stay" if kind == "client" else "renew it"
    check_dates(certificate, now, read.describe(certificate), advice)


def check_issuer(certificate: x509.Certificate, ca: x509.Certificate) -> None:
    """Tell apart: of another federation, of another CA with the same name, altered."""
    who, federation = read.describe(certificate), read.common_name(ca.subject)
    if certificate.issuer != ca.subject:
        other = read.common_name(certificate.issuer)
        raise BadCredentials(f'{who} is of federation "{other}", not of "{federation}"')
    if read.is_authority(certificate):
        raise BadCredentials(f"{who} is that of a CA and stands where a client's or a coordinator's must be")
    if _issuer_key(certificate) != x509.SubjectKeyIdentifier.from_public_key(ca.public_key()).digest:
        raise BadCredentials(f'{who} is of another federation that is also called "{federation}"')
    try:
        certificate.verify_directly_issued_by(ca)
    except (*read.UNREADABLE, InvalidSignature):
        raise BadCredentials(f"{who} was altered: the CA's signature does not match it") from None


def check_dates(certificate: x509.Certificate, now: float, who: str, advice: str) -> None:
    """Check the period of validity: `who` begins the message, `advice` ends it if it is over."""
    start, end = read.start_of(certificate), read.end_of(certificate)
    if now < start:
        clock = f"here it is {read.show(now)}: correct this machine's clock"
        raise BadCredentials(f"{who} is not valid before {read.show(start)}, and {clock}")
    if now > end:
        raise BadCredentials(f"{who} expired at {read.show(end)}: {advice}")


def check_key(key: TlsKey | SigningKey, certificate_pem: bytes) -> None:
    """Check that the certificate is for this key: two files on a disk may be of two enrolments."""
    certificate = read.load(certificate_pem)
    mine = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if read.spki(certificate) != mine:
        raise BadCredentials(f"{read.describe(certificate)} does not belong to the private key beside it")


def sealing_public(certificate_pem: bytes, ca_pem: bytes, now: float) -> bytes:
    """Return the coordinator's X25519 key, which uploads are sealed to."""
    _, key = _certified(certificate_pem, ca_pem, now, read.SEALING)
    if not isinstance(key, X25519PublicKey):
        raise BadCredentials("the coordinator's sealing certificate holds no X25519 key")
    return key.public_bytes_raw()


def receipts_public(certificate_pem: bytes, ca_pem: bytes, now: float) -> bytes:
    """Return the Ed25519 key that signs the coordinator's receipts."""
    _, key = _certified(certificate_pem, ca_pem, now, read.RECEIPTS)
    if not isinstance(key, Ed25519PublicKey):
        raise BadCredentials("the coordinator's certificate for receipts holds no Ed25519 key")
    return key.public_bytes_raw()


def signer_of(certificate_pem: bytes, ca_pem: bytes, now: float) -> Signer:
    """Return the site whose signing certificate this is."""
    name, key = _certified(certificate_pem, ca_pem, now, read.SIGNER)
    if not isinstance(key, Ed25519PublicKey):
        raise BadCredentials(f'the signing certificate of "{name}" holds no Ed25519 key')
    return Signer(name, key.public_bytes_raw(), read.spki_sha256(certificate_pem))


def _certified(pem: bytes, ca_pem: bytes, now: float, kind: str) -> tuple[str, object]:
    """Return (name, public key) of a valid certificate of this kind."""
    check_issued(pem, ca_pem, now)
    certificate = read.load(pem)
    found, name = read.subject(certificate)
    if found != kind:
        raise BadCredentials(f"{read.describe(certificate)} stands where a {kind} certificate must be")
    return name, certificate.public_key()


def _issuer_key(certificate: x509.Certificate) -> bytes | None:
    """Return which key is said to have signed: it tells another CA from an altered certificate."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return extension.value.key_identifier
