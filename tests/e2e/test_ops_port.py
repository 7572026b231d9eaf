"""The ops port of a real coordinator: told at the start, refused in words, gone with the coordinator."""

import http.client
import json
import re
import socket
import time

import pytest
from harness import Document, Federation, Process, eventually, free_port, plan

pytestmark = pytest.mark.e2e


def port_of(coordinator: Process) -> int:
    coordinator.says("dashboard")
    found = re.search(r"dashboard +http://localhost:(\d+)$", coordinator.text, re.MULTILINE)
    assert found, coordinator.text
    return int(found[1])


def asked(port: int, way: str, **headers: str) -> tuple[int, Document]:
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    try:
        connection.request("GET", way, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_it_is_there_while_the_coordinator_is(federation: Federation) -> None:
    federation.environment["UNISONO_OPS_PORT"] = "0"
    coordinator = federation.serve()
    port = port_of(coordinator)
    assert asked(port, "/readyz")[0] == 200
    federation.clients("anna", "bela")
    ended = federation.run(plan(2)).finished()
    status, shown = asked(port, f"/api/v1/runs/{ended['id']}")
    told = federation.operate("run", "show", ended["id"])
    assert status == 200
    assert {key: shown[key] for key in told} == told
    with socket.create_connection(("localhost", port)) as reader:  # somebody looks, and goes on looking
        reader.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"event: now" in reader.recv(65_536) + reader.recv(65_536)
        began = time.monotonic()
        assert coordinator.stop() == 0, coordinator.text
        assert time.monotonic() - began < 10
    assert "Traceback" not in coordinator.text


def test_a_port_that_is_taken(federation: Federation) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = federation.cli(
            "serve", "--dir", federation.operator, "--host", "127.0.0.1", "--ops-port", str(port)
        )
    assert taken.code == 3, taken.err
    assert f"127.0.0.1:{port} for the dashboard" in taken.err
    assert "--ops-port" in taken.err


def test_open_to_others_with_a_token_only(federation: Federation) -> None:
    federation.environment |= {"UNISONO_OPS_PORT": str(free_port()), "UNISONO_OPS_HOST": "0.0.0.0"}  # noqa: S104
    refused = federation.cli("serve", "--dir", federation.operator, "--host", "127.0.0.1")
    assert refused.code == 3, refused.err
    assert "ops_token_file" in refused.err
    token = federation.root / "ops.token"
    token.write_text(16 * "ab")
    token.chmod(0o600)
    federation.environment["UNISONO_OPS_TOKEN_FILE"] = str(token)
    port = port_of(federation.serve())
    eventually(lambda: asked(port, "/readyz")[0] == 200, 10, lambda: "never ready")
    assert asked(port, "/api/v1/health")[0] == 401
    status, health = asked(port, "/api/v1/health", Authorization=f"Bearer {16 * 'ab'}")
    assert (status, health["status"]) == (200, "ok")
    assert 16 * "ab" not in "".join(process.text for process in federation.processes), "no secret in a log"
