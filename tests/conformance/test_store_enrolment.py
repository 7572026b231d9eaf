from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from unisono.base.errors import BadCredentials, NotFound
from unisono.base.ids import Digest
from unisono.server.store import Store

KEY, OTHER = Digest("1" * 64), Digest("2" * 64)


def kinds(store: Store) -> list[str]:
    return [line.entry.kind for line in store.audit()]


def test_a_token_works_once_but_for_who_asks_again(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.add_token("t1", "hospital", 1, 100.0, "admin", 1.0)
    assert store.redeem("t1", KEY, 2.0) == ("hospital", 1)
    store = reopen()
    assert store.redeem("t1", KEY, 3.0) == ("hospital", 1)  # the answer was lost
    with pytest.raises(BadCredentials, match="used already"):
        store.redeem("t1", OTHER, 3.0)
    assert kinds(store) == ["token_created", "enrolled"]
    assert [(token.used, token.uses) for token in store.tokens()] == [(1, 1)]


def test_which_of_the_tokens_faults_it_is(store: Store) -> None:
    with pytest.raises(BadCredentials, match="unknown to this federation"):
        store.redeem("t0", KEY, 2.0)
    store.add_token("t1", "a", 1, 100.0, "admin", 1.0)
    with pytest.raises(BadCredentials, match="expired"):
        store.redeem("t1", KEY, 100.0)
    store.revoke("a", "sent to the wrong person", "admin", 5.0)
    with pytest.raises(BadCredentials, match="revoked"):
        store.redeem("t1", KEY, 6.0)
    assert store.clients() == ()


def test_a_numbered_token_names_its_clients(store: Store) -> None:
    store.add_token("t1", "site", 2, 100.0, "admin", 1.0)
    assert store.redeem("t1", KEY, 2.0) == ("site-1", 1)
    assert store.redeem("t1", OTHER, 2.0) == ("site-2", 2)
    with pytest.raises(BadCredentials, match="used already"):
        store.redeem("t1", Digest("3" * 64), 2.0)
    store.add_token("t2", "hospital", 1, 100.0, "admin", 1.0)
    assert store.redeem("t2", KEY, 2.0) == ("hospital", 3)
    store.add_token("t3", "site", 5, 100.0, "admin", 1.0)
    assert store.redeem("t3", KEY, 2.0) == ("site-3", 4)


def test_many_at_once_get_a_name_each(store: Store) -> None:
    store.add_token("t1", "site", 8, 100.0, "admin", 1.0)

    def redeem(letter: str) -> tuple[str, int] | None:
        try:
            return store.redeem("t1", Digest(letter * 64), 2.0)
        except BadCredentials:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(redeem, "0123456789ab"))
    enrolled = sorted(place for place in found if place is not None)
    assert enrolled == [(f"site-{number}", number) for number in range(1, 9)]
    assert store.verify_audit()[0] == 9


def test_joining_again_keeps_name_and_number(store: Store) -> None:
    for serial in ("t1", "t2"):
        store.add_token(serial, "hospital", 1, 100.0, "admin", 1.0)
    store.redeem("t1", KEY, 2.0)
    assert store.redeem("t2", OTHER, 3.0) == ("hospital", 1)
    (client,) = store.clients()
    assert (client.enrolled, client.signing_spki_sha256) == (True, OTHER)
    told = store.audit()[-1].entry
    assert told.kind == "enrolled_again"
    assert f'"previous_spki_sha256":"{KEY}"' in told.body


def test_revoking_takes_certificates_and_open_tokens(store: Store) -> None:
    store.add_token("t1", "hospital", 1, 100.0, "admin", 1.0)
    store.redeem("t1", KEY, 2.0)
    store.record("client", "hospital", "c1", 50.0, 2.0)
    store.record_signing("hospital", "PEM", 2.0)
    store.add_token("t2", "hospital", 1, 100.0, "admin", 3.0)
    store.revoke("hospital", "contract ended", "admin", 4.0)
    (client,) = store.clients("hospital")
    assert (client.enrolled, client.reason, client.revoked) == (False, "contract ended", 4.0)
    assert (client.tls_serial, client.tls_not_after, client.signing_certificate) == ("c1", 50.0, "PEM")
    assert store.certificates() == ()
    with pytest.raises(BadCredentials, match="revoked"):
        store.redeem("t2", OTHER, 5.0)
    store.add_token("t3", "hospital", 1, 100.0, "admin", 6.0)  # made after it: the operator wants it back
    assert store.redeem("t3", KEY, 7.0) == ("hospital", 1)
    store.record("client", "hospital", "c2", 90.0, 7.0)
    assert [certificate.serial for certificate in store.certificates("hospital")] == ["c2"]
    with pytest.raises(NotFound, match="nobody"):
        store.revoke("nobody", "", "admin", 8.0)


def test_a_hello_is_noted_but_not_audited(store: Store) -> None:
    store.add_token("t1", "a", 1, 100.0, "admin", 1.0)
    store.redeem("t1", KEY, 2.0)
    before = kinds(store)
    store.seen("a", "unisono 0.1.0", 9.0)
    (client,) = store.clients()
    assert (client.software, client.last_seen) == ("unisono 0.1.0", 9.0)
    assert kinds(store) == before
