"""Join tokens, certificates, certificate requests, statements."""

import base64
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fuzz_target import Target, refused, same

from unisono.base.errors import BadCredentials, Corrupt
from unisono.crypto import SigningKey, TlsKey, sha256_hex
from unisono.identity import (
    Authority,
    JoinToken,
    Statement,
    check_issued,
    check_token,
    federation_of,
    peer_of,
    renewal_due,
    request,
    requested_spki,
    sealing_public,
    signer_of,
    spki_sha256,
)
from unisono.identity.presented import names_host, period, presented
from unisono.identity.requests import signing_key, tls_key

NOW, DAY = 1_700_000_000.0, 86_400.0


@cache
def authority() -> Authority:
    return Authority.create("cardio", NOW)


@cache
def token() -> JoinToken:
    certificate, key = authority().issue_bootstrap("hospital-a", NOW, DAY)
    return JoinToken("cardio", authority().certificate_pem, certificate, key)


def _pem(der: bytes, kind: str) -> bytes:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n".encode()


def _token_text(data: bytes) -> str:
    """Read data as a token's text, its packed part with a right checksum, or its parts before packing."""
    mode, rest = data[:1], data[1:]
    if mode == b"\0":
        return rest.decode("latin-1")
    packed = zlib.compress(rest) if mode == b"\1" else rest
    text = "uni1." + base64.urlsafe_b64encode(packed).decode().rstrip("=")
    return f"{text}.{sha256_hex(text.encode())[:8]}"


def _tokens(data: bytes) -> None:
    found = JoinToken.decode(_token_text(data))
    same(JoinToken.decode(found.encode()).encode(), found.encode())
    check_token(found, NOW)


def _token_seeds() -> Iterator[bytes]:
    text = token().encode()
    packed = base64.urlsafe_b64decode(text.split(".")[1] + "===")
    yield b"\0" + text.encode()
    yield b"\1" + zlib.decompress(packed)
    yield b"\2" + packed


def _csrs(data: bytes) -> None:
    pem = _pem(data[1:], "CERTIFICATE REQUEST") if data[:1] == b"\1" else data[1:]
    for read in (tls_key, signing_key, requested_spki):
        try:
            read(pem)
        except BadCredentials as error:
            refusal = error
        else:
            return
    raise refusal


def _csr_seeds() -> Iterator[bytes]:
    for key in (TlsKey.generate(), SigningKey.from_bytes(bytes(range(32)))):
        pem = request(key)
        yield b"\0" + pem
        yield b"\1" + x509.load_pem_x509_csr(pem).public_bytes(Encoding.DER)


def _certificates(data: bytes) -> None:
    pem = _pem(data[1:], "CERTIFICATE") if data[:1] == b"\1" else data[1:]
    ca = authority().certificate_pem
    readers: tuple[Callable[[], object], ...] = (
        lambda: peer_of(pem),
        lambda: federation_of(pem),
        lambda: spki_sha256(pem),
        lambda: period(pem),
        lambda: check_issued(pem, ca, NOW),
        lambda: renewal_due(pem, NOW),
        lambda: signer_of(pem, ca, NOW),
        lambda: sealing_public(pem, ca, NOW),
        lambda: names_host(presented(data[1:], ca).names, "localhost"),
    )
    refusals = list[BadCredentials]()
    for read in readers:
        try:
            read()
        except BadCredentials as error:
            refused(error)
            refusals.append(error)
    if len(refusals) == len(readers):
        raise refusals[0]


def _certificate_seeds() -> Iterator[bytes]:
    ca, key, signing = authority(), TlsKey.generate(), SigningKey.from_bytes(bytes(range(32)))
    made = (
        ca.certificate_pem,
        ca.issue_server(request(key), ["localhost", "10.0.0.1"], NOW),
        ca.issue_tls(request(key), "client", "hospital-a", NOW, DAY),
        ca.issue_signing(request(signing), "hospital-a", NOW),
        ca.issue_sealing(bytes(range(32)), NOW),
    )
    for pem in made:
        yield b"\0" + pem
        yield b"\1" + x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def _statements(data: bytes) -> None:
    public, signature, rest = data[:32], data[32:96], data[96:]
    said = Statement("rotate", (rest, "hospital-a", len(rest)))
    said.check(public, signature)
    assert public == _SIGNER.public, "a signature of nobody was accepted"


_SIGNER = SigningKey.from_bytes(bytes(range(32)))


def _statement_seeds() -> Iterator[bytes]:
    said = Statement("rotate", (b"rest", "hospital-a", 4))
    yield _SIGNER.public + said.sign(_SIGNER) + b"rest"


TARGETS = (
    Target("token", _tokens, _token_seeds, (BadCredentials,)),
    Target("csr", _csrs, _csr_seeds, (BadCredentials,), 2048),
    Target("certificate", _certificates, _certificate_seeds, (BadCredentials,), 2048),
    Target("statement", _statements, _statement_seeds, (BadCredentials, Corrupt), 256),
)
