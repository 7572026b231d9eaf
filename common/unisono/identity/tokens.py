"""Join tokens: all that a site needs to connect for the first time, in one line of text.

The text is `uni1.`, base64url of the compressed parts, `.`, and the first 8 hexadecimal digits of the SHA-256
of all before.  The checksum guards against mail programs and half a copy, not against people: what counts is
the CA's signature.  A token is a secret: whoever uses it first, joins.
"""

import base64
import re
import zlib
from dataclasses import dataclass, field
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from unisono.base.errors import BadCredentials, Corrupt
from unisono.crypto import TlsKey, sha256_hex

from . import certificates as read
from .checks import check_dates, check_issuer, check_key

PREFIX = "uni1."
CHECKSUM = 8
MAX_TEXT = 16_384  # characters; a token has about 1000
MAX_PARTS = 65_536  # bytes after decompression, so that a small text cannot become a large one
_FORM = re.compile(rf"(uni1\.([A-Za-z0-9_-]+))\.([0-9a-f]{{{CHECKSUM}}})")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A federation's CA, and a short-lived certificate and key that may enrol under the name it carries."""

    federation: str
    ca_pem: bytes
    certificate_pem: bytes
    key: TlsKey = field(repr=False)

    def __post_init__(self) -> None:
        if self.federation != read.federation_of(self.ca_pem):
            raise BadCredentials(f'the CA in the join token is not that of federation "{self.federation}"')

    @property
    def name(self) -> str:
        """The name that the site will have."""
        return read.subject(read.load(self.certificate_pem))[1]

    def encode(self) -> str:
        """Write the token as one line of text without spaces."""
        parts = [_der(self.ca_pem), _der(self.certificate_pem), self.key.to_bytes()]
        packed = zlib.compress(b"".join(len(part).to_bytes(2, "big") + part for part in parts), 9)
        text = PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")
        return f"{text}.{_checksum(text)}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read `encode`'s text; spaces and line breaks do no harm.  Raises BadCredentials."""
        try:
            ca, certificate, raw = _parts(_packed("".join(text.split())))
            ca_pem, certificate_pem = _pem(ca), _pem(certificate)
            return cls(read.federation_of(ca_pem), ca_pem, certificate_pem, TlsKey.from_bytes(raw))
        except (*read.UNREADABLE, zlib.error, Corrupt):  # the checksum is right: somebody built this
            raise BadCredentials("the join token was altered: what it carries cannot be read") from None


def check_token(token: JoinToken, now: float, ca_pem: bytes | None = None) -> None:
    """Check all that can be checked before dialling: a failed TLS handshake could not say why.

    Args:
        token: what `JoinToken.decode` returned.
        now: wall seconds.
        ca_pem: the CA that this site already knows, if it has joined before.

    """
    certificate, ca = read.load(token.certificate_pem), read.load_ca(token.ca_pem)
    kind, name = read.subject(certificate)
    who = f'the join token for "{name}"'
    if ca_pem is not None and read.spki_sha256(ca_pem) != read.spki_sha256(token.ca_pem):
        mine = read.federation_of(ca_pem)
        raise BadCredentials(
            f'{who} is of another federation: "{token.federation}" ({_short(token.ca_pem)}), '
            f'not "{mine}" ({_short(ca_pem)})'
        )
    check_issuer(certificate, ca)
    check_key(token.key, token.certificate_pem)
    if kind != "bootstrap":
        raise BadCredentials(f"{who} was altered: {read.describe(certificate)} cannot enrol")
    check_dates(ca, now, read.describe(ca), "the federation must be set up again")
    check_dates(certificate, now, who, f"ask the operator for a new one (unisono token create {name})")


def _packed(text: str) -> bytes:
    """Return the bytes of a token whose checksum is right."""
    if re.match(r"uni\d+\.", text) is None:
        raise BadCredentials(f"these {len(text)} characters are not a join token: one begins with {PREFIX}")
    if not text.startswith(PREFIX):
        version = text.split(".", 1)[0]
        raise BadCredentials(
            f"the join token is of a version that is not known here ({version}): update Unisono"
        )
    found = _FORM.fullmatch(text) if len(text) <= MAX_TEXT else None
    if found is None or _checksum(found[1]) != found[3]:
        copy = (
            f"the checksum of its {len(text)} characters is missing or does not match: copy it again, whole"
        )
        raise BadCredentials(f"the join token was cut or altered: {copy}")
    return base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))


def _parts(packed: bytes) -> list[bytes]:
    """Undo the compression and the length prefixes.  Raises ValueError, zlib.error."""
    inflate = zlib.decompressobj()
    plain, parts = inflate.decompress(packed, MAX_PARTS), list[bytes]()
    if not inflate.eof:
        raise ValueError("too long or cut")
    while plain:
        end = 2 + int.from_bytes(plain[:2], "big")
        if end > len(plain):
            raise ValueError("a part is cut")
        parts.append(plain[2:end])
        plain = plain[end:]
    return parts


def _checksum(text: str) -> str:
    return sha256_hex(text.encode())[:CHECKSUM]


def _short(ca_pem: bytes) -> str:
    return read.spoken(read.spki_sha256(ca_pem))[:16] + "-..."


def _der(pem: bytes) -> bytes:
    return read.load(pem).public_bytes(Encoding.DER)


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
