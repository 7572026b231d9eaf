"""What several files share: a coordinator in this process, and one that only an operator's desk needs."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from admin_world import CA, NOW, Admin, Desk, Enrolment, State, Transfer, credentials
from structlog.testing import capture_logs

from unisono.crypto import TlsKey
from unisono.identity import request
from unisono.server.founding import found
from unisono.wire.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server
from unisono.wire.v1.enrolment_pb2_grpc import (
    add_EnrolmentServiceServicer_to_server,
)
from unisono.wire.v1.transfer_pb2_grpc import add_TransferServiceServicer_to_server


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found_runner:
        yield found_runner


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("founded") / "cardio"
    found(path, ["localhost", "127.0.0.1"], 8443, "cardio", NOW)
    return path


@pytest.fixture
def path(founded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(founded, tmp_path / "cardio"))


@pytest.fixture
def play(runner: asyncio.Runner) -> Iterator[Callable[[Awaitable[None]], None]]:
    async def limited(story: Awaitable[None]) -> None:
        async with asyncio.timeout(20):
            await story

    with capture_logs():
        yield lambda story: runner.run(limited(story))


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, State]]:
    state, key = State(), TlsKey.generate()
    certificate = CA.issue_server(request(key), ["localhost"], NOW)
    credentials = grpc.ssl_server_credentials(
        [(key.to_pem(), certificate)], CA.certificate_pem, require_client_auth=True
    )
    with ThreadPoolExecutor(4) as pool:
        grpc_server = grpc.server(pool)
        add_AdminServiceServicer_to_server(Admin(state), grpc_server)
        add_TransferServiceServicer_to_server(Transfer(state), grpc_server)
        add_EnrolmentServiceServicer_to_server(Enrolment(state), grpc_server)
        port = grpc_server.add_secure_port("localhost:0", credentials)
        grpc_server.start()
        yield f"localhost:{port}", state
        grpc_server.stop(None).wait()


@pytest.fixture
def desk(server: tuple[str, State], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    address, state = server
    state.__init__()  # type: ignore[misc]  # a fresh state for the server that all tests share
    return Desk(credentials(tmp_path, address).parent, address, state, capsys)
