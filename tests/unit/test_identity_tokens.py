"""Join tokens: what travels, and in which way one is wrong.  Statements: none stands for another."""

import base64
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono.base.errors import BadCredentials
from unisono.crypto import SigningKey, TlsKey, sha256_hex
from unisono.identity import (
    Authority,
    JoinToken,
    Statement,
    check_token,
    peer_of,
    request,
    rotation,
    spki_sha256,
)

NOW = 1_763_000_000.0
HOUR = 3600.0
CA = Authority.create("cardio", NOW)


def mint(authority: Authority = CA, now: float = NOW, life: float = 24 * HOUR) -> JoinToken:
    certificate, key = authority.issue_bootstrap("hospital-a", now, life)
    return JoinToken(authority.federation, authority.certificate_pem, certificate, key)


TOKEN = mint()
TEXT = TOKEN.encode()


def pack(inner: bytes) -> str:
    """Write a token with a right checksum around any content."""
    text = "uni1." + base64.urlsafe_b64encode(inner).decode().rstrip("=")
    return f"{text}.{sha256_hex(text.encode())[:8]}"


def test_a_token_travels_as_one_short_line() -> None:
    back = JoinToken.decode(TEXT)
    assert (back.federation, back.name) == ("cardio", "hospital-a")
    assert (back.ca_pem, back.certificate_pem) == (TOKEN.ca_pem, TOKEN.certificate_pem)
    assert back.key.to_bytes() == TOKEN.key.to_bytes()
    assert back.encode() == TEXT
    assert peer_of(back.certificate_pem).kind == "bootstrap"
    check_token(back, NOW)
    assert len(TEXT.split()) == 1
    assert len(TEXT) < 1000
    assert repr(TOKEN.key.to_bytes()) not in repr(TOKEN)


def test_line_breaks_of_a_mail_program_do_no_harm() -> None:
    broken = " " + "\r\n".join(TEXT[i : i + 70] for i in range(0, len(TEXT), 70)) + "\n"
    assert JoinToken.decode(broken).encode() == TEXT


@pytest.mark.parametrize("text", ["", "hello", "https://fl.example.org", "uni", "Uni1.abc"])
def test_what_is_no_token_is_called_so(text: str) -> None:
    with pytest.raises(BadCredentials, match=rf"these {len(text)} characters are not a join token"):
        JoinToken.decode(text)


def test_a_token_of_a_later_version_is_called_so() -> None:
    with pytest.raises(BadCredentials, match=r"not known here \(uni2\): update"):
        JoinToken.decode("uni2." + TEXT[5:])


@given(st.integers(5, len(TEXT) - 1))
def test_a_cut_token_is_called_so(end: int) -> None:
    with pytest.raises(BadCredentials, match="cut or altered"):
        JoinToken.decode(TEXT[:end])


@given(st.integers(5, len(TEXT) - 1), st.sampled_from("aZ09-_.ä"))
def test_an_altered_token_is_called_so(place: int, character: str) -> None:
    altered = TEXT[:place] + character + TEXT[place + 1 :]
    if altered != TEXT:
        with pytest.raises(BadCredentials, match="cut or altered"):
            JoinToken.decode(altered)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(zlib.compress))
def test_no_content_does_anything_but_be_refused(inner: bytes) -> None:
    with pytest.raises(BadCredentials):
        JoinToken.decode(pack(inner))


def test_a_small_text_cannot_become_a_large_one() -> None:
    bomb = pack(zlib.compress(bytes(5_000_000), 9))
    assert len(bomb) < 10_000
    with pytest.raises(BadCredentials, match="altered"):
        JoinToken.decode(bomb)
    with pytest.raises(BadCredentials, match="altered"):
        JoinToken.decode("uni1." + "A" * 20_000 + ".00000000")


def test_an_expired_token_says_since_when_and_what_to_do() -> None:
    check_token(TOKEN, NOW + 24 * HOUR)
    with pytest.raises(BadCredentials) as caught:
        check_token(TOKEN, NOW + 24 * HOUR + 1)
    assert str(caught.value) == (
        'the join token for "hospital-a" expired at 2025-11-14 02:13:20 UTC: '
        "ask the operator for a new one (unisono token create hospital-a)"
    )


def test_a_token_from_the_future_is_a_wrong_clock() -> None:
    token = mint(now=NOW + 48 * HOUR)
    with pytest.raises(
        BadCredentials, match='join token for "hospital-a" is not valid before 2025-11-15 01:13:20 UTC'
    ):
        check_token(token, NOW)


def test_a_token_of_another_federation_names_both() -> None:
    check_token(TOKEN, NOW, CA.certificate_pem)
    other = Authority.create("neuro", NOW).certificate_pem
    with pytest.raises(
        BadCredentials, match=r'another federation: "cardio" \(SHA256:.*\), not "neuro" \(SHA256:'
    ):
        check_token(TOKEN, NOW, other)
    namesake = Authority.create("cardio", NOW).certificate_pem
    with pytest.raises(BadCredentials, match=r'another federation: "cardio" .* not "cardio"'):
        check_token(TOKEN, NOW, namesake)


def test_a_token_put_together_from_two_is_refused() -> None:
    other = mint(Authority.create("neuro", NOW))
    with pytest.raises(BadCredentials, match='not that of federation "cardio"'):
        replace(TOKEN, ca_pem=other.ca_pem)
    with pytest.raises(BadCredentials, match='is of federation "neuro", not of "cardio"'):
        check_token(replace(TOKEN, certificate_pem=other.certificate_pem), NOW)
    with pytest.raises(BadCredentials, match="does not belong to the private key"):
        check_token(replace(TOKEN, key=TlsKey.generate()), NOW)


def test_a_token_carries_a_bootstrap_certificate_only() -> None:
    coordinator = TlsKey.generate()
    pem = CA.issue_tls(request(coordinator), "admin", "root", NOW, HOUR)
    with pytest.raises(BadCredentials, match='altered: the admin certificate of "root" cannot enrol'):
        check_token(replace(TOKEN, certificate_pem=pem, key=coordinator), NOW)


KEY, OTHER = SigningKey.from_bytes(bytes(32)), SigningKey.from_bytes(bytes(range(32)))
CA_PRINT = spki_sha256(CA.certificate_pem)


def test_a_statement_is_its_makers_and_nothing_else() -> None:
    statement = rotation(CA_PRINT, "hospital-a", CA_PRINT, OTHER.public)
    signature = statement.sign(KEY)
    statement.check(KEY.public, signature)
    for wrong in (
        rotation(CA_PRINT, "hospital-b", CA_PRINT, OTHER.public),
        rotation(CA_PRINT, "hospital-a", CA_PRINT, KEY.public),
        replace(statement, kind="result"),
        replace(statement, fields=statement.fields[:-1]),
    ):
        with pytest.raises(BadCredentials, match=f'statement "{wrong.kind}" does not match'):
            wrong.check(KEY.public, signature)
    with pytest.raises(BadCredentials, match="does not match"):
        statement.check(OTHER.public, signature)
    with pytest.raises(BadCredentials, match="does not match"):
        statement.check(KEY.public, signature[:-1])


def test_the_signed_bytes_of_a_statement_are_fixed() -> None:
    expected = b"".join(
        len(part).to_bytes(8, "big") + part
        for part in (b"unisono/statement/1", b"upload", b"r-0007", (3).to_bytes(8, "big"), b"\0\1")
    )
    assert Statement("upload", ("r-0007", 3, b"\0\1")).message() == expected
