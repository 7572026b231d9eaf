"""Reading certificates (RFC 5280): whose they are, from when to when, with which key.

Who a certificate names stands in one URI of its subject alternative name, unisono://KIND/NAME; the common
name is for people.  What cannot be read raises BadCredentials: a person must find the right file.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from unisono.base.errors import BadCredentials
from unisono.base.ids import Digest, is_name
from unisono.crypto import sha256_hex

Kind: TypeAlias = Literal["client", "bootstrap", "admin", "coordinator"]
PEERS: tuple[Kind, ...] = get_args(Kind)  # who may be at the other end of a connection
# what else is certified: sites' Ed25519 keys; the coordinator's X25519 key, and its Ed25519 key for receipts
SIGNER, SEALING, RECEIPTS = "signer", "sealing", "receipts"
SCHEME = "unisono://"
# All that the library raises, found by flipping every bit of a certificate and a request (tests).
UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
KEPT, LARGEST = 1024, 16 << 10  # certificates, and bytes of one; ours have some 700
BACKDATED = 3600.0  # seconds from not_before to the issue, for machines whose clock is slow


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a TLS connection, as its certificate says; TLS has checked the chain and the dates."""

    kind: Kind
    name: str
    serial: str  # hexadecimal; revocation goes by it
    not_after: float  # wall seconds


def load(pem: bytes) -> x509.Certificate:
    """Read the first certificate in `pem`, whole: the library parses late and would fail inside a check.

    What was read is kept for a while: a coordinator is shown the same few certificates with every call.
    Not what is large, for anything may stand around a certificate in PEM.
    """
    return kept(pem) if len(pem) <= LARGEST else _read(pem)


def _read(pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key()
    except UNREADABLE:
        raise BadCredentials(
            f"these {len(pem)} bytes are not a certificate in PEM, or it was altered"
        ) from None
    return certificate


kept = lru_cache(maxsize=KEPT)(_read)


def load_ca(pem: bytes) -> x509.Certificate:
    """Read a federation's CA certificate: marked as one, named as one, and signed by itself."""
    ca = load(pem)
    try:
        ca.verify_directly_issued_by(ca)
    except (*UNREADABLE, InvalidSignature):
        raise BadCredentials(f"{describe(ca)} is not a federation's CA: it is not signed by itself") from None
    if not is_authority(ca) or not is_name(common_name(ca.subject)):
        raise BadCredentials(f"{describe(ca)} is not a federation's CA: it may not issue, or has no name")
    return ca


def federation_of(ca_pem: bytes) -> str:
    """Return the name of the federation whose CA this is."""
    return common_name(load_ca(ca_pem).subject)


def subject(certificate: x509.Certificate) -> tuple[str, str]:
    """Return (KIND, NAME) of the one unisono:// URI of `certificate`."""
    found = _uri(certificate)
    if found is None:
        raise BadCredentials(f"{describe(certificate)} names nobody: it has no single URI {SCHEME}KIND/NAME")
    return found


def peer_of(certificate_pem: bytes) -> Peer:
    """Tell who shows this certificate.  Raises BadCredentials if it is not one to connect with."""
    certificate = load(certificate_pem)
    kind, name = subject(certificate)
    for known in PEERS:
        if kind == known:
            return Peer(known, name, format(certificate.serial_number, "x"), end_of(certificate))
    raise BadCredentials(f"{describe(certificate)} is not one to connect with")


def renewal_due(certificate_pem: bytes, now: float) -> bool:
    """Tell whether two thirds of the life, counted from the issue and not the backdated start, are over."""
    certificate = load(certificate_pem)
    issued = start_of(certificate) + BACKDATED
    return now >= issued + (end_of(certificate) - issued) * 2 / 3


def spki(certificate: x509.Certificate) -> bytes:
    """Return the certified key as DER SubjectPublicKeyInfo."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_sha256(certificate_pem: bytes) -> Digest:
    """Return the key's fingerprint: a new certificate for the same key keeps it (RFC 7469, 2.4)."""
    return sha256_hex(spki(load(certificate_pem)))


def spoken(digest: Digest) -> str:
    """Write a fingerprint so that two people can compare it on the phone: SHA256:fb3e-91c4-..."""
    return "SHA256:" + "-".join(digest[i : i + 4] for i in range(0, len(digest), 4))


def start_of(certificate: x509.Certificate) -> float:
    """Return the first second of validity, wall seconds."""
    return certificate.not_valid_before_utc.timestamp()


def end_of(certificate: x509.Certificate) -> float:
    """Return the last second of validity, wall seconds."""
    return certificate.not_valid_after_utc.timestamp()


def expiry(certificate_pem: bytes) -> float:
    """Return when a certificate ends, wall seconds."""
    return end_of(load(certificate_pem))


def show(wall: float) -> str:
    """Write a time for people, in UTC: who writes and who reads may be in different countries."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def common_name(name: x509.Name) -> str:
    """Return the common name of a subject or issuer, or "" if it has none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def describe(certificate: x509.Certificate) -> str:
    """Name a certificate in a message."""
    match _uri(certificate):
        case (kind, name):
            return f'the {kind} certificate of "{name}"'
        case _:
            kind = "CA certificate" if is_authority(certificate) else "certificate"
            return f'the {kind} of "{common_name(certificate.subject)}"'


def is_authority(certificate: x509.Certificate) -> bool:
    """Tell whether this certificate may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _uri(certificate: x509.Certificate) -> tuple[str, str] | None:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    match [uri.removeprefix(SCHEME).split("/") for uri in uris if uri.startswith(SCHEME)]:
        case [[kind, name]] if is_name(kind) and is_name(name):
            return kind, name
        case _:
            return None
