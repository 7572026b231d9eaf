"""Tokens, certificates and revocation, with lives of seconds."""

import re
import time
from pathlib import Path

import pytest
from harness import CLIENTS, Federation, plan

pytestmark = pytest.mark.e2e


def refused(federation: Federation, name: str, token: Path, words: str) -> None:
    done = federation.join(name, token)
    assert done.code == 4, done
    assert re.search(words, done.err), done.err
    assert len(done.err.splitlines()) <= 3, done.err
    assert "PRIVATE" not in done.err


def test_a_token_that_cannot_be_used(federation: Federation, enrolled: Federation) -> None:
    """Used twice, cut, altered, expired, of another federation: each is told apart."""
    federation.serve()
    token, short = federation.token("dora"), federation.token("emil", "--ttl", "1s")
    expires = time.monotonic() + 2.1  # certificates, and tokens are some, end with a whole second
    assert federation.join("dora", token).code == 0
    refused(federation, "thief", token, "token used already")
    text = token.read_text().strip()
    cut, altered = federation.root / "cut.token", federation.root / "altered.token"
    cut.write_text(text[:-20])
    refused(federation, "cut", cut, "cut or altered")
    altered.write_text(text[:100] + ("A" if text[100] != "A" else "B") + text[101:])
    refused(federation, "altered", altered, "cut or altered")
    time.sleep(max(0.0, expires - time.monotonic()))
    refused(federation, "emil", short, 'join token for "emil" expired')


def test_a_token_of_another_federation(federation: Federation, tmp_path: Path) -> None:
    other = Federation(tmp_path / "others", federation.port)
    other.root.mkdir()
    other.ok(
        "init", other.operator, "--host", "localhost", "--port", str(other.port), "--federation", "cardio"
    )
    coordinator = other.serve()
    token = other.token("anna")
    assert coordinator.stop() == 0
    federation.serve()
    refused(federation, "anna", token, 'is of another federation: "cardio"')  # this site knows its CA
    refused(federation, "fresh", token, 'of federation "cardio"')  # this one learns it in the handshake
    other.close()


def test_a_certificate_is_renewed_while_a_run_goes_on(federation: Federation) -> None:
    """At two thirds of six seconds; the run takes longer than one certificate lives."""
    federation.settings(client_certificate_life="6s")
    federation.serve()
    for name in ("dora", "emil"):
        assert federation.join(name, federation.token(name)).code == 0
        federation.client(name)
    done = federation.run(plan(count=7, parameters={"seconds": 1.0})).finished()
    assert all(r["survivors"] == ["dora", "emil"] and r["attempts"] == 1 for r in done["rounds"])
    for client in federation.processes[1:]:
        assert client.running
        assert client.text.count("event=renewed") >= 1, client.text


def test_an_expired_certificate_and_the_way_back(federation: Federation) -> None:
    federation.settings(client_certificate_life="3s")
    federation.serve()
    assert federation.join("dora", federation.token("dora")).code == 0
    time.sleep(3.2)
    late = federation.cli("client", "--dir", federation.site("dora"))
    assert late.code == 4, late
    assert "the certificate of dora expired" in late.err
    assert "new token" in late.err
    again = federation.join("dora", federation.token("dora"))
    assert again.code == 0, again.err
    assert "again, as dora" in again.out
    found = {c["name"]: c["number"] for c in federation.operate("clients")["clients"]}
    assert found == {"anna": 1, "bela": 2, "cora": 3, "dora": 4}


def test_a_revoked_client_is_out_at_once_and_the_run_goes_on(federation: Federation) -> None:
    federation.serve()
    _, bela, _ = federation.clients(*CLIENTS)
    run = federation.run(plan(count=4, size=3, parameters={"seconds": 0.7}))
    federation.trains("bela", 1)
    federation.ok("revoke", "bela", "--dir", federation.operator)
    assert bela.wait() == 4
    assert "revoked" in bela.text
    done = run.finished()
    assert done["rounds"][-1]["survivors"] == ["anna", "cora"]
    states = {c["name"]: c["state"] for c in federation.operate("clients")["clients"]}
    assert states["bela"] == "revoked"
    assert federation.client("bela").wait() == 4
