"""Crash at every write of what is done once: joining, and a new version's first start."""

import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from crash_checks import check_coordinator, whole
from crash_world import KILL, LOSSES, POWER, Control, World, opened, place
from harness import Federation, listening
from nursery import Life, Nursery

from unisono.base.clock import ManualClock
from unisono.client.runtime.channel import Credentials, call, open_channel
from unisono.client.runtime.vault import Vault
from unisono.server.store.migrating import known_versions
from unisono.wire.v1 import admin_pb2
from unisono.wire.v1.admin_pb2_grpc import AdminServiceStub

pytestmark = pytest.mark.e2e
FIXTURE = Path(__file__).parent.parent / "fixtures" / "0.1.0" / "federation.tar.xz"
SOME, ALL = 7, 1  # every seventh call; every one
STEPS = [pytest.param(SOME, id="some"), pytest.param(ALL, id="all", marks=pytest.mark.slow)]


def join(world: World, folder: Path, token: Path, control: Control) -> Life:
    words = ["join", f"localhost:{world.federation.port}", "--token", str(token), "--dir", str(folder)]
    life = world.nursery.start(
        words, folder.with_suffix(".log"), control=str(control.path), root=str(folder / "client")
    )
    assert life.ended.wait(30), life.text
    return life


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lose", [KILL, POWER], ids=LOSSES[:2])
def test_a_join_that_was_cut_off_is_done_again(
    nursery: Nursery, enrolled_once: Federation, step: int, lose: int
) -> None:
    with opened(nursery, enrolled_once) as world:
        admin = Credentials.read(world.federation.operator / "admin", "admin")
        control = Control(world.root / "joining.control")
        with closing(open_channel(admin, f"localhost:{world.federation.port}")) as channel:
            for at in count(1, step):
                name = f"dora-{at}"
                token, folder = world.root / f"{name}.token", world.root / name
                request = admin_pb2.CreateTokenRequest(name=name, ttl_seconds=3600.0, uses=1)
                token.write_text(call(AdminServiceStub(channel).CreateToken, request, 20.0).token)
                control.arm(at, lose=lose)
                first = join(world, folder, token, control)
                control.disarm()
                if first.status == 0:
                    break
                assert first.status == -9, f"call {at}: {first.status} {first.text}"
                again = join(world, folder, token, control)
                assert again.status == 0, f"call {at}, the same token again: {again.text}"
                check_joined(folder / "client", name)
                shutil.rmtree(folder)
        assert at > 20
        world.stop()


def check_joined(folder: Path, name: str) -> None:
    whole(folder / "state.db")
    with closing(Vault(folder, ManualClock())) as vault:
        identity = vault.identity()
        assert identity is not None
        assert identity.name == name
        said = [line.kind for line in vault.audit()]
    assert said in (["joined"], ["joined", "joined"]), "twice, if all but the answer on the screen was done"
    assert Credentials.read(folder, "tls").certificate
    assert not [path.name for path in folder.iterdir() if path.suffix in (".part", ".new")]


@pytest.fixture
def old(tmp_path: Path) -> Iterator[tuple[Federation, float]]:
    root = place()
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(root, filter="data")
    found = root / "federation"
    yield Federation(found, int((found / "PORT").read_text())), float((found / "WALL").read_text())
    shutil.rmtree(root)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lose", [KILL, POWER], ids=LOSSES[:2])
def test_an_upgrade_that_was_cut_off_goes_on(
    nursery: Nursery, old: tuple[Federation, float], tmp_path: Path, step: int, lose: int
) -> None:
    federation, wall = old
    for at in count(1, step):
        copied = federation.copy(tmp_path / f"{at}")
        control = Control(tmp_path / f"{at}.control")
        control.jump(wall - time.time())
        control.arm(at, lose=lose)
        first = serve(nursery, copied, control)
        died = control["died"]
        control.disarm()
        if died:
            first.ended.wait(10)
            first = serve(nursery, copied, control)
        assert first.ended.is_set() is False, f"call {at}: {first.text}"
        os.kill(first.pid, 15)
        assert first.ended.wait(30)
        assert first.status == 0, f"call {at}: {first.text}"
        check_upgraded(copied.operator / "coordinator")
        shutil.rmtree(copied.root)
        if not died:
            break
    assert at > 20


def serve(nursery: Nursery, federation: Federation, control: Control) -> Life:
    """Start a coordinator; return when it listens or is dead."""
    words = ["serve", "--dir", str(federation.operator), "--host", "127.0.0.1"]
    root = federation.operator / "coordinator"
    life = nursery.start(words, federation.root / "serve.log", control=str(control.path), root=str(root))
    end = time.monotonic() + 30
    while not life.ended.is_set() and not ("listens" in life.text and listening(federation.port)):
        assert time.monotonic() < end, life.text
        time.sleep(0.01)
    return life


def check_upgraded(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "state.db")) as database:
        (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert version == known_versions()[-1]
    check_coordinator(folder, idle=False)
