import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from unisono.base.errors import BadConfiguration, BadCredentials, NotEnrolled, NotFound, Refused
from unisono.base.ids import ClientName
from unisono.crypto import SigningKey, TlsKey, system_entropy
from unisono.identity import Authority, Peer, peer_of, request, spki_sha256
from unisono.server.enrolment import Enrolled, Ledger
from unisono.server.store import Store, open_store

NOW = 1_700_000_000.0
DAY = 86_400.0
AUTHORITY = Authority.create("hospitals", NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


def token(ledger: Ledger, name: str, uses: int = 1, now: float = NOW) -> Peer:
    certificate, _ = AUTHORITY.issue_bootstrap(name, now, DAY)
    ledger.create_token(certificate, name, uses, "admin", now)
    return peer_of(certificate)


def enrol(ledger: Ledger, bearer: Peer, key: SigningKey | None = None, now: float = NOW) -> Enrolled:
    key = key or SigningKey.generate(system_entropy)
    tls = request(TlsKey.generate())
    return ledger.enrol(bearer.serial, AUTHORITY, tls, request(key), "unisono 0.1.0", now, 30 * DAY)


def test_a_token_becomes_a_client(ledger: Ledger, store: Store) -> None:
    bearer = token(ledger, "hospital-a")
    ledger.allow(bearer)
    done = enrol(ledger, bearer)
    peer = peer_of(done.tls_certificate)
    assert (done.name, done.number, peer.name, peer.kind) == ("hospital-a", 1, "hospital-a", "client")
    ledger.allow(peer)
    (client,) = store.clients()
    assert client.signing_spki_sha256 == spki_sha256(done.signing_certificate)
    assert client.signing_certificate == done.signing_certificate.decode()
    assert (client.tls_serial, client.software) == (peer.serial, "unisono 0.1.0")
    assert (ledger.enrolled(), ledger.number(ClientName("hospital-a"))) == (1, 1)


def test_a_lost_answer_is_given_again_and_a_stranger_gets_none(ledger: Ledger) -> None:
    bearer, key = token(ledger, "a"), SigningKey.generate(system_entropy)
    first, second = enrol(ledger, bearer, key), enrol(ledger, bearer, key)
    assert (first.name, first.number) == (second.name, second.number)
    ledger.allow(peer_of(first.tls_certificate))
    ledger.allow(peer_of(second.tls_certificate))
    with pytest.raises(BadCredentials, match="used already"):
        enrol(ledger, bearer)


def test_a_request_that_does_not_parse_uses_nothing_up(ledger: Ledger) -> None:
    bearer = token(ledger, "a")
    good, wrong_kind = request(TlsKey.generate()), request(SigningKey.generate(system_entropy))
    for tls, signing in ((b"junk", wrong_kind), (wrong_kind, wrong_kind), (good, b"junk"), (good, good)):
        with pytest.raises(BadCredentials, match="request"):
            ledger.enrol(bearer.serial, AUTHORITY, tls, signing, "", NOW, DAY)
    assert enrol(ledger, bearer).number == 1


def test_revoked_is_refused_at_once_and_after_a_restart(ledger: Ledger, store: Store) -> None:
    done = enrol(ledger, token(ledger, "a"))
    peer = peer_of(done.tls_certificate)
    ledger.revoke("a", "contract ended", "admin", NOW + 1)
    for book in (ledger, Ledger(store)):
        with pytest.raises(
            NotEnrolled, match=r"'a' was revoked \(contract ended\) on 2023-11-14 22:13:21 UTC"
        ):
            book.allow(peer)
    assert ledger.enrolled() == 0


def test_a_revoked_bearer_of_a_numbered_token_does_not_come_back_by_asking_again(ledger: Ledger) -> None:
    bearer, key = token(ledger, "site", uses=3), SigningKey.generate(system_entropy)
    assert enrol(ledger, bearer, key).name == "site-1"
    ledger.revoke("site-1", "lost laptop", "admin", NOW)
    with pytest.raises(NotEnrolled, match="lost laptop"):
        enrol(ledger, bearer, key)
    assert enrol(ledger, bearer).name == "site-2"


def test_a_client_that_is_taken_back_is_not_known_by_its_old_certificates(
    ledger: Ledger, store: Store
) -> None:
    old = peer_of(enrol(ledger, token(ledger, "a")).tls_certificate)
    ledger.revoke("a", "stolen", "admin", NOW)
    again = enrol(ledger, token(ledger, "a", now=NOW + 5), now=NOW + 5)
    assert again.number == 1
    for book in (ledger, Ledger(store)):
        book.allow(peer_of(again.tls_certificate))
        with pytest.raises(NotEnrolled, match="this certificate of client 'a' was revoked"):
            book.allow(old)


def test_strangers(ledger: Ledger) -> None:
    for stranger in (Peer("client", "nobody", "ab", NOW + DAY), Peer("coordinator", "x", "ab", NOW + DAY)):
        with pytest.raises(NotEnrolled, match="not enrolled in this federation"):
            ledger.allow(stranger)
    with pytest.raises(NotEnrolled, match="'nobody'"):
        ledger.number(ClientName("nobody"))
    with pytest.raises(NotEnrolled, match="certificate of operator 'admin' was revoked, or was never issued"):
        ledger.allow(Peer("admin", "admin", "ab", NOW + DAY))


def operator(ledger: Ledger, name: str, serial: str, life: float = 90 * DAY) -> Peer:
    peer = Peer("admin", name, serial, NOW + life)
    ledger.issued(peer, NOW)
    return peer


def test_an_operators_certificates_are_revoked_together(ledger: Ledger, store: Store) -> None:
    first, renewed, other = (operator(ledger, *who) for who in (("ann", "01"), ("ann", "02"), ("bob", "03")))
    client = peer_of(enrol(ledger, token(ledger, "ann")).tls_certificate)  # of the same name
    certificate, _ = AUTHORITY.issue_bootstrap("late", NOW, DAY)
    ledger.create_token(certificate, "late", 5, "ann", NOW)
    assert ledger.revoke_operator("ann", "laptop stolen", "bob", NOW + 1, force=False) == (2, 1)
    for book in (ledger, Ledger(store)):
        for gone in (first, renewed):
            with pytest.raises(NotEnrolled, match="operator 'ann' was revoked"):
                book.allow(gone)
        book.allow(other)
        book.allow(client)
        with pytest.raises(BadCredentials, match="token revoked"):
            enrol(book, peer_of(certificate))
    with pytest.raises(NotEnrolled):
        ledger.renewed(renewed, Peer("admin", "ann", "04", NOW + DAY), NOW + 2)
    again = operator(ledger, "ann", "05")  # by whoever has the CA's key
    ledger.allow(again)
    with pytest.raises(NotEnrolled):
        ledger.allow(first)


def test_the_last_operator_stays_unless_forced(ledger: Ledger, store: Store) -> None:
    last = operator(ledger, "ann", "01")
    operator(ledger, "bob", "02", life=DAY)
    later = NOW + 2 * DAY  # bob's has expired
    with pytest.raises(NotFound, match="'bob' has a valid certificate; those who have: ann"):
        ledger.revoke_operator("bob", "", "ann", later, force=False)
    before = store.audit()
    with pytest.raises(Refused, match="the last valid operator's certificate"):
        ledger.revoke_operator("ann", "", "ann", later, force=False)
    assert store.audit() == before
    ledger.allow(last)
    assert ledger.revoke_operator("ann", "left", "ann", later, force=True) == (1, 0)
    with pytest.raises(NotEnrolled):
        ledger.allow(last)
    entry = store.audit()[-1].entry
    assert (entry.kind, entry.subject) == ("operator_revoked", "ann")
    assert json.loads(entry.body) == {"reason": "left", "by": "ann", "certificates": 1, "tokens": 0}


@pytest.mark.parametrize(
    ("name", "uses"), [("Hospital A", 1), ("", 1), ("a" * 60, 2), ("a", 0), ("a", 1_000_000)]
)
def test_names_and_uses_that_no_token_may_have(ledger: Ledger, name: str, uses: int) -> None:
    certificate, _ = AUTHORITY.issue_bootstrap("a", NOW, DAY)
    with pytest.raises(BadConfiguration, match=r"name a client|uses"):
        ledger.create_token(certificate, name, uses, "admin", NOW)


def test_renewal_is_due_after_two_thirds_of_the_life(ledger: Ledger, store: Store) -> None:
    peer = peer_of(enrol(ledger, token(ledger, "a")).tls_certificate)
    admin = Peer("admin", "admin", "cd", NOW + 90 * DAY)
    ledger.issued(admin, NOW)
    for book in (ledger, Ledger(store)):
        assert not book.renewal_due(peer, NOW + 19.9 * DAY)
        assert book.renewal_due(peer, NOW + 20.1 * DAY)
        assert not book.renewal_due(admin, NOW + 59 * DAY)
        assert book.renewal_due(admin, NOW + 61 * DAY)
    unknown = Peer("client", "a", "ef", NOW + 30 * DAY)  # issued after the backup that was restored
    assert not ledger.renewal_due(unknown, NOW)
    assert ledger.renewal_due(unknown, NOW + 21 * DAY)


def test_the_question_of_every_call_asks_no_database(ledger: Ledger, store: Store) -> None:
    peer = peer_of(enrol(ledger, token(ledger, "a")).tls_certificate)
    store.close()
    ledger.allow(peer)
