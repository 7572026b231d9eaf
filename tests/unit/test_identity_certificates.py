"""What the CA issues, and what a person reads when a certificate is wrong."""

import base64
import contextlib
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from unisono.base.errors import BadConfiguration, BadCredentials
from unisono.base.ids import Digest
from unisono.crypto import SealingKey, SigningKey, TlsKey, sha256_hex, system_entropy
from unisono.identity import (
    Authority,
    Peer,
    check_issued,
    check_key,
    federation_of,
    peer_of,
    renewal_due,
    request,
    sealing_public,
    signer_of,
    spki_sha256,
    spoken,
)
from unisono.identity.certificates import LARGEST, kept
from unisono.identity.requests import signing_key, tls_key

NOW = 1_763_000_000.5
DAY = 86400.0
CA = Authority.create("cardio", NOW)
TLS, SIGNING = TlsKey.generate(), SigningKey.from_bytes(bytes(range(32)))
CLIENT = CA.issue_tls(request(TLS), "client", "hospital-a", NOW, 30 * DAY)


def altered(pem: bytes, old: bytes, new: bytes) -> bytes:
    """Change bytes inside the signed part."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert der.count(old) >= 1
    return x509.load_der_x509_certificate(der.replace(old, new)).public_bytes(Encoding.PEM)


def test_a_peer_is_who_the_caller_said_not_who_the_request_said() -> None:
    serial = x509.load_pem_x509_certificate(CLIENT).serial_number
    assert peer_of(CLIENT) == Peer("client", "hospital-a", f"{serial:x}", NOW + 0.5 + 30 * DAY)
    assert peer_of(CA.issue_tls(request(TLS), "admin", "root", NOW, DAY)).kind == "admin"
    assert peer_of(CA.issue_server(request(TLS), ["fl.example.org"], NOW)).kind == "coordinator"
    assert peer_of(CA.issue_bootstrap("hospital-b", NOW, DAY)[0]).name == "hospital-b"


def test_signing_and_sealing_certificates_are_not_to_connect_with() -> None:
    signing = CA.issue_signing(request(SIGNING), "hospital-a", NOW)
    sealing = CA.issue_sealing(SealingKey.generate(system_entropy).public, NOW)
    for pem in (signing, sealing):
        with pytest.raises(BadCredentials, match="not one to connect with"):
            peer_of(pem)
    with pytest.raises(BadCredentials, match="names nobody"):
        peer_of(CA.certificate_pem)
    with pytest.raises(BadCredentials, match="7 bytes are not a certificate"):
        peer_of(b"garbage")


def test_what_stands_around_a_certificate_takes_no_memory() -> None:
    """A coordinator could show a site the same one in a thousand texts of megabytes, all of them kept."""
    before = kept.cache_info().currsize
    for number in range(3):
        assert peer_of(b"%d" % number + b" " * LARGEST + b"\n" + CLIENT) == peer_of(CLIENT)
    assert kept.cache_info().currsize <= before + 1  # CLIENT itself


def test_the_authority_comes_back_from_its_two_files() -> None:
    again = Authority.from_pem(CA.key_pem, CA.certificate_pem)
    assert again.federation == "cardio" == federation_of(CA.certificate_pem)
    check_issued(again.issue_tls(request(TLS), "client", "b", NOW, DAY), CA.certificate_pem, NOW)
    with pytest.raises(BadCredentials, match="does not belong to the private key"):
        Authority.from_pem(TlsKey.generate().to_pem(), CA.certificate_pem)
    with pytest.raises(BadCredentials, match="not a federation's CA"):
        Authority.from_pem(TLS.to_pem(), CLIENT)
    with pytest.raises(BadCredentials, match="the CA's key cannot be read: not an unencrypted"):
        Authority.from_pem(b"garbage", CA.certificate_pem)


def test_a_certificate_and_a_key_of_two_enrolments_do_not_fit() -> None:
    check_key(TLS, CLIENT)
    with pytest.raises(BadCredentials, match='client certificate of "hospital-a" does not belong'):
        check_key(TlsKey.generate(), CLIENT)


def test_an_expired_certificate_says_since_when_and_what_to_do() -> None:
    check_issued(CLIENT, CA.certificate_pem, NOW - 3600)
    check_issued(CLIENT, CA.certificate_pem, NOW + 30 * DAY)
    with pytest.raises(BadCredentials) as caught:
        check_issued(CLIENT, CA.certificate_pem, NOW + 30 * DAY + 2)
    assert str(caught.value) == (
        'the client certificate of "hospital-a" expired at 2025-12-13 02:13:21 UTC: '
        "join again with a new token, the name and the identity stay"
    )
    server = CA.issue_server(request(TLS), ["localhost"], NOW)
    with pytest.raises(BadCredentials, match=r"2026-02-11 02:13:21 UTC: renew it"):
        check_issued(server, CA.certificate_pem, NOW + 91 * DAY)


def test_a_clock_before_the_authority_is_wrong() -> None:
    says = "not valid before 2025-11-13 01:13:20 UTC, and here it is 2025-11-13 01:13:18 UTC: correct"
    with pytest.raises(BadCredentials, match=f'CA certificate of "cardio" is {says}'):
        check_issued(CLIENT, CA.certificate_pem, NOW - 3602)


def test_a_certificate_from_the_future_is_a_wrong_clock() -> None:
    later = CA.issue_tls(request(TLS), "client", "hospital-a", NOW + 2 * DAY, DAY)
    with pytest.raises(
        BadCredentials, match=r'client certificate of "hospital-a" is not valid before .* clock'
    ):
        check_issued(later, CA.certificate_pem, NOW)


def test_other_federation_other_authority_and_alteration_are_told_apart() -> None:
    other, namesake = Authority.create("neuro", NOW), Authority.create("cardio", NOW)
    with pytest.raises(BadCredentials, match='is of federation "cardio", not of "neuro"'):
        check_issued(CLIENT, other.certificate_pem, NOW)
    with pytest.raises(BadCredentials, match='another federation that is also called "cardio"'):
        check_issued(CLIENT, namesake.certificate_pem, NOW)
    with pytest.raises(BadCredentials, match='"hospital-b" was altered'):
        check_issued(altered(CLIENT, b"hospital-a", b"hospital-b"), CA.certificate_pem, NOW)
    with pytest.raises(BadCredentials, match="is that of a CA"):
        check_issued(CA.certificate_pem, CA.certificate_pem, NOW)
    with pytest.raises(BadCredentials, match="not a federation's CA"):
        check_issued(CLIENT, CLIENT, NOW)


def flipped(pem: bytes) -> Iterator[bytes]:
    """Yield `pem` with one bit of its DER flipped, for every bit."""
    first, *lines, last = pem.splitlines(keepends=True)
    der = bytearray(base64.b64decode(b"".join(lines)))
    for bit in range(8 * len(der)):
        der[bit // 8] ^= 1 << bit % 8
        yield first + base64.encodebytes(der) + last
        der[bit // 8] ^= 1 << bit % 8


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # a flip in its sign; the signature catches it
def test_no_flipped_bit_of_a_certificate_passes_or_does_anything_but_be_refused() -> None:
    signed = x509.load_pem_x509_certificate(CLIENT).tbs_certificate_bytes
    for pem in flipped(CLIENT):
        with contextlib.suppress(BadCredentials):
            peer_of(pem)
        with contextlib.suppress(BadCredentials):
            check_issued(pem, CA.certificate_pem, NOW)
            assert (
                x509.load_pem_x509_certificate(pem).tbs_certificate_bytes == signed
            )  # only the wrapping changed


@pytest.mark.parametrize("key", [TLS, SIGNING], ids=["P-256", "Ed25519"])
def test_no_flipped_bit_of_a_request_passes_or_does_anything_but_be_refused(key: TlsKey | SigningKey) -> None:
    signed = x509.load_pem_x509_csr(request(key)).tbs_certrequest_bytes
    for pem in flipped(request(key)):
        with contextlib.suppress(BadCredentials):
            tls_key(pem) if isinstance(key, TlsKey) else signing_key(pem)
            assert x509.load_pem_x509_csr(pem).tbs_certrequest_bytes == signed


def test_a_life_ends_with_the_authority() -> None:
    end = NOW + 3650 * DAY
    pem = CA.issue_signing(request(SIGNING), "hospital-a", end - DAY)
    assert x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp() == pytest.approx(end, abs=1)
    with pytest.raises(BadCredentials, match='CA certificate of "cardio" expired at 2035-'):
        CA.issue_signing(request(SIGNING), "hospital-a", end + 2)


@pytest.mark.parametrize("life", [3.0, 30 * DAY])
def test_renewal_is_due_at_two_thirds_of_the_life(life: float) -> None:
    now = float(int(NOW))
    pem = CA.issue_tls(request(TLS), "client", "a", now, life)
    assert [renewal_due(pem, now + life * part) for part in (0, 0.6, 0.66, 0.67, 1, 9)] == [False] * 3 + [
        True
    ] * 3


def test_a_life_of_seconds_is_never_rounded_away() -> None:
    pem = CA.issue_tls(request(TLS), "client", "a", NOW, 0.4)
    check_issued(pem, CA.certificate_pem, NOW + 0.4)
    with pytest.raises(BadCredentials, match="expired"):
        check_issued(pem, CA.certificate_pem, NOW + 2)


def test_the_server_has_exactly_the_hosts_given() -> None:
    hosts = ["FL.example.org", "localhost", "127.0.0.1", "::1", "localhost"]
    pem = CA.issue_server(request(TLS), hosts, NOW)
    names = (
        x509.load_pem_x509_certificate(pem)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["unisono://coordinator/coordinator"]


@pytest.mark.parametrize(
    "host", ["", "https://a.org", "a.org:8443", "*.a.org", "a b", "10.0.0.300", "-a.org", "a" * 64]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(BadConfiguration, match="is not a host name or an IP address"):
        CA.issue_server(request(TLS), [host], NOW)
    with pytest.raises(BadConfiguration, match="needs a host name"):
        CA.issue_server(request(TLS), [], NOW)


@pytest.mark.parametrize("name", ["", "Hospital", "a/b", "a b", "-a", "a" * 64, "ä"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadConfiguration, match="cannot name a client"):
        CA.issue_tls(request(TLS), "client", name, NOW, DAY)
    with pytest.raises(BadConfiguration, match="cannot name a federation"):
        Authority.create(name, NOW)


def test_a_request_for_the_wrong_kind_of_key_is_refused() -> None:
    with pytest.raises(BadCredentials, match="not for a P-256 key"):
        CA.issue_tls(request(SIGNING), "client", "a", NOW, DAY)
    with pytest.raises(BadCredentials, match="not for an Ed25519 key"):
        CA.issue_signing(request(TLS), "a", NOW)
    big = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = big.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    with pytest.raises(BadCredentials, match="not for a P-256 key"):
        CA.issue_tls(csr, "client", "a", NOW, DAY)


def test_a_request_that_was_altered_or_is_none_is_refused() -> None:
    der = x509.load_pem_x509_csr(request(TLS)).public_bytes(Encoding.DER)
    csr = x509.load_der_x509_csr(der.replace(b"unisono", b"unisona")).public_bytes(Encoding.PEM)
    with pytest.raises(BadCredentials, match="request does not match: it was altered"):
        CA.issue_tls(csr, "client", "a", NOW, DAY)
    for wrong in (b"", b"\0" * 100, CLIENT):
        with pytest.raises(BadCredentials, match="not a certificate request"):
            CA.issue_tls(wrong, "client", "a", NOW, DAY)


def test_the_sealing_key_is_certified() -> None:
    key = SealingKey.generate(system_entropy)
    pem = CA.issue_sealing(key.public, NOW)
    assert sealing_public(pem, CA.certificate_pem, NOW) == key.public
    with pytest.raises(BadCredentials, match='not of "neuro"'):
        sealing_public(pem, Authority.create("neuro", NOW).certificate_pem, NOW)
    with pytest.raises(BadCredentials, match='client certificate of "hospital-a" stands where a sealing'):
        sealing_public(CLIENT, CA.certificate_pem, NOW)
    with pytest.raises(BadCredentials, match="32 bytes, not 31"):
        CA.issue_sealing(bytes(31), NOW)


def test_a_signer_is_certified_and_its_fingerprint_is_the_keys() -> None:
    pem = CA.issue_signing(request(SIGNING), "hospital-a", NOW)
    signer = signer_of(pem, CA.certificate_pem, NOW)
    assert (signer.name, signer.public) == ("hospital-a", SIGNING.public)
    der = bytes.fromhex("302a300506032b6570032100") + SIGNING.public  # RFC 8410, section 4
    assert signer.fingerprint == spki_sha256(pem) == sha256_hex(der)
    assert spki_sha256(CA.issue_signing(request(SIGNING), "hospital-a", NOW + DAY)) == signer.fingerprint
    with pytest.raises(BadCredentials, match="stands where a signer"):
        signer_of(CLIENT, CA.certificate_pem, NOW)


def test_a_fingerprint_can_be_read_out() -> None:
    text = spoken(Digest("fb3e91c4" + "0" * 56))
    assert text.startswith("SHA256:fb3e-91c4-0000-")
    assert len(text) == 7 + 64 + 15
