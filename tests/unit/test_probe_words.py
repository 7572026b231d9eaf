"""Words of strangers go to a terminal as words: a proxy's, a certificate's, somebody else's database's."""

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tls_world import listening

from unisono.audit.chain import START, coordinator_line
from unisono.base.errors import Corrupt
from unisono.cli.outcomes import FAILED, report
from unisono.client.admin.audit_commands import show
from unisono.probe import Target, first_failure, walk
from unisono.probe.finding import failure, ok, warning
from unisono.server.store import open_store

EVIL = "\x1b]0;mine\x07\n  ok       all is well\x9b2J"


def test_a_finding_is_one_line_without_escapes() -> None:
    for made in (ok("TLS", EVIL), warning("TLS", EVIL, EVIL), failure("TLS", EVIL, EVIL)):
        assert made.words.isprintable()
        assert made.advice.isprintable()


def test_what_a_proxy_says_steers_no_terminal() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(f"HTTP/1.1 403 {EVIL}\r\n\r\n".encode("latin-1"))

    with listening(refuse) as port:
        environment = {"https_proxy": f"http://127.0.0.1:{port}"}
        found = first_failure(walk(Target("fl.example.org", 8443, 0.0, environment)))
    assert found is not None
    assert (found.what, found.words.isprintable()) == ("tunnel", True)
    assert "403 ?]0;mine?" in found.words


def test_what_a_log_says_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It fits together, but somebody else wrote it: `audit show` is for copies, too."""
    folder = tmp_path / "coordinator"
    folder.mkdir()
    (folder / "sealing.key").touch()
    open_store(folder).close()
    told = (EVIL, "r-0001", EVIL, "{}")
    digest = coordinator_line(START, 1, 1.0, told)
    with closing(sqlite3.connect(folder / "state.db")) as db, db:
        columns = "(seq, wall, kind, run, subject, body, previous, hash)"
        db.execute(f"INSERT INTO audit {columns} VALUES (1, 1.0, ?, ?, ?, ?, ?, ?)", (*told, START, digest))  # noqa: S608
    show(directory=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_what_an_error_says_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Corrupt(f"audit line 1 ({EVIL}) was changed")) == FAILED
    assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())
