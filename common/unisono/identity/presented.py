"""A server's certificate as it was presented, not as it is believed: to say whose it is if not ours."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from unisono.base.errors import BadCredentials

from . import certificates as read
from .checks import check_issuer


@dataclass(frozen=True, slots=True)
class Presented:
    """What stands in it."""

    issuer: str  # its common name, else its organisation
    names: tuple[str, ...]  # host names and addresses
    start: float  # wall seconds
    end: float
    coordinator: bool  # it says that it is a coordinator of some federation
    stranger: str  # why it is not of our CA; "" if it is


def presented(der: bytes, ca_pem: bytes) -> Presented:
    """Read a certificate in DER.  Raises BadCredentials if it is none."""
    try:
        certificate = read.load(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
    except read.UNREADABLE:
        raise BadCredentials(f"these {len(der)} bytes are not a certificate in DER") from None
    stranger = ""
    try:
        check_issuer(certificate, read.load_ca(ca_pem))
    except BadCredentials as error:
        stranger = str(error)
    return Presented(
        issuer=_organisation(certificate.issuer),
        names=_names(certificate),
        start=read.start_of(certificate),
        end=read.end_of(certificate),
        coordinator=_kind(certificate) == "coordinator",
        stranger=stranger,
    )


def period(certificate_pem: bytes) -> tuple[float, float]:
    """Return the first and the last second of a certificate's validity, wall seconds."""
    certificate = read.load(certificate_pem)
    return read.start_of(certificate), read.end_of(certificate)


def names_host(names: tuple[str, ...], host: str) -> bool:
    """Tell whether a certificate with these names is for `host` (RFC 6125; one wildcard at the left)."""
    wanted = host.lower().strip("[]")
    above = wanted.partition(".")[2]
    return any(name in {wanted, f"*.{above}" if above else wanted} for name in names)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    named = extension.value.get_values_for_type(x509.DNSName)
    numbered = extension.value.get_values_for_type(x509.IPAddress)
    return (*(name.lower() for name in named), *(str(address) for address in numbered))


def _organisation(name: x509.Name) -> str:
    found = read.common_name(name)
    if not found:
        organisations = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        found = str(organisations[0].value) if organisations else name.rfc4514_string()
    return "".join(c if c.isprintable() else "?" for c in found[:80])


def _kind(certificate: x509.Certificate) -> str:
    try:
        return read.subject(certificate)[0]
    except BadCredentials:
        return ""
