"""Certificate signing requests (PKCS 10, RFC 2986): a public key and the proof that its owner sends it."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from unisono.base.errors import BadCredentials
from unisono.base.ids import Digest
from unisono.crypto import SigningKey, TlsKey, sha256_hex
from unisono.crypto.keys import is_weak

from .certificates import UNREADABLE


def request(key: TlsKey | SigningKey) -> bytes:
    """Return a request in PEM.  It names nobody: the name comes from the join token, never from here."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "unisono")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    algorithm = hashes.SHA256() if isinstance(key, TlsKey) else None  # Ed25519 hashes by itself
    return builder.sign(key.private, algorithm).public_bytes(Encoding.PEM)


def tls_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key that a request asks to certify.  Raises BadCredentials."""
    key = _requested(csr_pem)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadCredentials("the request is not for a P-256 key, the only kind for TLS here")
    return key


def signing_key(csr_pem: bytes) -> Ed25519PublicKey:
    """Return the Ed25519 key that a request asks to certify.  Raises BadCredentials."""
    key = _requested(csr_pem)
    if not isinstance(key, Ed25519PublicKey):
        raise BadCredentials("the request is not for an Ed25519 key, the only kind for signatures here")
    if is_weak(key.public_bytes_raw()):
        raise BadCredentials("the request is for an Ed25519 key of small order: anybody could sign with it")
    return key


def requested_spki(csr_pem: bytes) -> Digest:
    """Return the fingerprint that the certificate for a signing request will have.  Raises BadCredentials."""
    key = signing_key(csr_pem)
    return sha256_hex(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _requested(csr_pem: bytes) -> object:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        valid, key = csr.is_signature_valid, csr.public_key()
    except UNREADABLE:
        raise BadCredentials(f"these {len(csr_pem)} bytes are not a certificate request in PEM") from None
    if not valid:
        raise BadCredentials("the signature of the certificate request does not match: it was altered")
    return key
