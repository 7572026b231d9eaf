"""A client that freezes, as a laptop that is closed: its connection does not stay for long."""

import os
import signal
import time
from pathlib import Path

import pytest
from harness import Federation, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ESTABLISHED = "01"


def test_a_frozen_client_is_let_go_within_the_keepalive(federation: Federation) -> None:
    coordinator = federation.serve()
    anna = federation.client("anna")
    anna.says("connected")
    os.kill(anna.popen.pid, signal.SIGSTOP)
    assert accepted(coordinator.popen.pid, federation.port), "there was a connection"
    began = time.monotonic()
    eventually(
        lambda: not accepted(coordinator.popen.pid, federation.port),
        60,
        lambda: "the coordinator still holds the connection of a client that is frozen",
    )
    assert time.monotonic() - began > 5, "it was not the freezing that ended it"


def accepted(pid: int, port: int) -> list[str]:
    """Return the connections to `port` that the process holds."""
    tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]  # gRPC binds to both
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    mine = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
    return [
        row[2]
        for row in rows
        if row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED and f"socket:[{row[9]}]" in mine
    ]
