"""No log holds a secret: a federation with everything at debug and -v, and all that was written searched.

Looked for, raw, in hexadecimal (either case) and in base64 (either alphabet, at any offset): join tokens and
the keys in them, every private key on any disk, and what secure aggregation keeps secret, read out of a
client's encrypted state while a round goes on.
"""

import base64
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from harness import CLIENTS, Federation, eventually, plan

from unisono.base.ids import RunId
from unisono.client.runtime.attempts import Attempts
from unisono.client.session import Attempt
from unisono.crypto import AtRest, TlsKey
from unisono.identity import JoinToken
from unisono.secagg.client import decode_state

pytestmark = pytest.mark.e2e
MASKED = {"mode": "secagg", "max_colluding": 0}


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield how a secret may look in a log."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield repr(secret)[2:-1].encode()
    for shift in range(3):  # base64 of something that holds it, whatever stands before
        coded = base64.b64encode(bytes(shift) + secret)[4 if shift else 0 : -4]
        yield coded
        yield coded.replace(b"+", b"-").replace(b"/", b"_")


def keys_of(federation: Federation) -> dict[str, bytes]:
    """Return every private key that lies on a disk of this federation."""
    found = {}
    for path in federation.root.rglob("*.key"):
        name, data = str(path.relative_to(federation.root)), path.read_bytes()
        if data.startswith(b"-----"):
            found[f"{name} as a number"] = TlsKey.from_pem(data).to_bytes()
            data = b"".join(data.splitlines()[1:-1])
        found[name] = data
    return found


def secagg_of(folder: Path) -> dict[str, bytes]:
    """Return what a client's state holds that nobody may see: house style marks it repr=False."""
    reader = Attempts.__new__(Attempts)
    reader._at_rest = AtRest((folder / "vault.key").read_bytes())
    found: dict[str, bytes] = {}
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(folder / "state.db")) as db:
        query = "SELECT run, round, attempt, state FROM attempts WHERE state IS NOT NULL"
        for run, round_, attempt, state in db.execute(query):
            at = Attempt(RunId(run), round_, attempt)
            found |= secrets_in(decode_state(reader._unseal(at, state)), f"{folder.parent.name} {round_}")
    return found


def secrets_in(value: object, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if isinstance(value, tuple | list):
        for number, inner in enumerate(value):
            found |= secrets_in(inner, f"{where}.{number}")
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            inner = getattr(value, field.name)
            if not field.repr and isinstance(inner, bytes):
                found[f"{where}.{field.name}"] = inner
            elif not field.repr and isinstance(inner, tuple):
                found |= {f"{where}.{field.name}{n}": x for n, x in enumerate(inner) if isinstance(x, bytes)}
            found |= secrets_in(inner, f"{where}.{field.name}")
    return found


def written(federation: Federation, commands: list[str]) -> bytes:
    """Return all that processes and commands wrote: screens, logs, audit logs, plans that were asked."""
    logs = [path.read_bytes() for path in sorted(federation.root.rglob("*.log"))]
    return b"\n".join([*logs, *(text.encode() for text in commands)])


def test_no_log_holds_a_secret(federation: Federation) -> None:
    federation.environment |= {"UNISONO_LOG_LEVEL": "debug", "UNISONO_LOG_FORMAT": "json"}
    said: list[str] = []

    def command(*words: str | Path) -> None:
        done = federation.cli(*words, "-v")
        said.append(done.out + done.err)

    federation.serve()
    for name in CLIENTS:
        federation.client(name, "Arrays", "-v")
    tokens = [federation.token("late"), federation.token("never")]
    late = ("join", f"localhost:{federation.port}", "--dir", federation.root / "late", "--token")
    command(*late, tokens[0])
    command(*late, tokens[0])  # used already
    command(*late, tokens[1])  # of another name
    run = federation.run(plan(2, 3, protection=MASKED, parameters={"size": 2_000, "seconds": 1.0}))
    secrets: dict[str, bytes] = {}

    def held() -> bool:
        for name in CLIENTS:
            secrets.update(secagg_of(federation.site(name) / "client"))
        return {"b", "v"} <= {where.rpartition(".")[2] for where in secrets}  # shares have been dealt

    eventually(held, 30, lambda: f"no client ever held a share: {sorted(secrets)}")
    run.finished()
    command("revoke", "late", "--reason", "for the test", "--dir", federation.operator)
    command("run", "show", "--dir", federation.operator)
    command("audit", "show", "--limit", "0", "--dir", federation.operator / "coordinator")
    site = federation.site(CLIENTS[0])
    command("audit", "show", "--limit", "0", "--json", "--dir", site)
    command("client", "receipts", "--json", "--dir", site)
    command("client", "plans", "--dir", site)
    for token in tokens:
        text = token.read_text().strip()
        secrets[token.name] = text.encode()[-200:]
        secrets[f"{token.name}: its key"] = JoinToken.decode(text).key.to_bytes()
    secrets |= keys_of(federation)
    everything = written(federation, said)
    assert len(secrets) > 40, sorted(secrets)
    assert b'"level": "debug"' in everything, "nothing was written at debug"
    for name, secret in secrets.items():
        assert len(secret) >= 16, name
        for form in forms(secret):
            assert form not in everything, f"{name} is in a log"


def test_the_search_finds_what_is_there() -> None:
    secret = bytes(range(7, 39))
    for text in (
        secret,
        secret.hex().encode(),
        base64.b64encode(secret),
        base64.urlsafe_b64encode(b"{'key': b'" + secret + b"'}"),
        repr({"key": secret}).encode(),
    ):
        assert any(form in text for form in forms(secret)), text


def test_every_line_of_a_log_says_whom_it_is_about(federation: Federation) -> None:
    """JSON, one object a line; what comes of a call names its client, what comes of a run the run."""
    import json  # noqa: PLC0415

    federation.environment |= {"UNISONO_LOG_LEVEL": "debug", "UNISONO_LOG_FORMAT": "json"}
    coordinator = federation.serve()
    federation.client("anna")
    federation.run(plan(1, 1, cohort={"min_survivors": 1}, parameters={"size": 100})).finished()
    objects = [line for line in coordinator.text.splitlines() if line.startswith("{")]
    lines = [json.loads(line) for line in objects]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["timestamp"]) for line in lines)
    about = {"saved", "aggregated", "round_published", "run_ended"}
    for line in lines:
        if line["event"] in about:
            assert line["run"] == "r-0001", line
            assert "admin" not in line, line  # the operator's call is over
        if line["event"] in {"aggregated", "round_published"}:
            assert line["round"] in (1, 2), line
    assert about <= {line["event"] for line in lines}
