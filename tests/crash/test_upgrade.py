"""Folders that version 0.1.0 left behind open after migration, and its runs go on; newer ones are refused.

Nothing here depends on the date: every process lives at the time when the folders were written.
"""

import hashlib
import json
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash_checks import check_folders
from crash_world import PATIENCE, Document, World, place, plan_text
from harness import CLIENTS, Federation
from nursery import Nursery

from unisono.base.clock import ManualClock
from unisono.base.ids import RunId
from unisono.client.runtime import vault
from unisono.client.runtime.attempts import Attempts
from unisono.client.runtime.place import place_of
from unisono.client.runtime.vault import Vault
from unisono.crypto import AtRest
from unisono.server.store import open_store
from unisono.server.store.migrating import MIGRATIONS, known_versions

FIXTURE = Path(__file__).parent.parent / "fixtures" / "0.1.0" / "federation.tar.xz"
FIRST, SECOND, HALF = RunId("r-0001"), RunId("r-0002"), RunId("r-0003")
FROZEN = {  # a migration that was released is never edited: others have run it
    "0001_first.py": "7d5450d7718b96f43130c158925981c93dabf4c1f326e5e1e305b76a3126dc33",
    "0002_ledger.py": "95e2bee5e66418e7bb87ee7df58cae268018a0c500476d35c36f4f019314ecf4",
}
FROZEN_SITE = {  # the same for the statements of a site's vault, by version
    1: "753e38cf9fc2e4704ec17a8f54f71179266d33d87de55723d343349c44fddec7",
    2: "69460f82d6deaf4f4e21a5a81cce2238c7df8a94274d4dfeabf0e710caef7009",
}


@dataclass(frozen=True, slots=True)
class Old:
    """The unpacked folders."""

    federation: Federation
    wall: float
    models: tuple[str, ...]

    @property
    def coordinator(self) -> Path:
        return self.federation.operator / "coordinator"

    def site(self, name: str) -> Path:
        return self.federation.site(name) / "client"


@pytest.fixture
def old() -> Iterator[Old]:
    root = place()
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(root, filter="data")
    found = root / "federation"
    port = int((found / "PORT").read_text())
    federation = Federation(found, port).copy(root / "copy")
    yield Old(federation, float((found / "WALL").read_text()), tuple((found / "QUIET").read_text().split()))
    shutil.rmtree(root)


def test_the_coordinator_s_folder_opens(old: Old) -> None:
    at_rest = AtRest((old.coordinator / "at-rest.key").read_bytes())
    with closing(open_store(old.coordinator, at_rest)) as store:
        first, half = store.show(FIRST), store.show(HALF)
        assert (first["state"], first["model_sha256"]) == ("finished", old.models[0])
        assert store.show(SECOND)["model_sha256"] == old.models[1]
        assert (half["state"], len(half["rounds"])) == ("running", 2)  # type: ignore[arg-type]
        assert store.active() == (HALF,)
        assert store.load(HALF).run.round == 2
        assert [client.name for client in store.clients()] == list(CLIENTS)
        assert sorted((token.name, token.used) for token in store.tokens()) == [
            ("anna", 1), ("bela", 1), ("cora", 1), ("dora", 0)
        ]  # fmt: skip
        count, _ = store.verify_audit()
        assert count > 30


def test_a_site_s_folder_opens(old: Old) -> None:
    folder = old.site("anna")
    with closing(Vault(folder, ManualClock(wall=old.wall))) as found:
        identity = found.identity()
        assert identity is not None
        assert (identity.federation, identity.name, identity.number) == ("federation", "anna", 1)
        agreed = found.run(HALF)
        assert agreed is not None
        assert json.loads(agreed.plan)["task"] == "arrays"
        kinds = [line.kind for line in found.audit()]
        assert (kinds[0], kinds.count("accepted"), kinds.count("released") >= 8) == ("joined", 3, True)
        attempts = Attempts(found, (folder / "vault.key").read_bytes(), place_of(folder / "state.db"))
        assert not attempts.rolled_back, "a folder that was never bound to a place is no copy"


@pytest.mark.parametrize("side", ["coordinator", "site"])
def test_its_tables_become_those_of_a_new_one(old: Old, tmp_path: Path, side: str) -> None:
    if side == "coordinator":
        open_store(old.coordinator).close()
        open_store(tmp_path).close()
        files = old.coordinator / "state.db", tmp_path / "state.db"
    else:
        for folder in (old.site("bela"), tmp_path):
            Vault(folder, ManualClock()).close()
        files = old.site("bela") / "state.db", tmp_path / "state.db"
    migrated, made = map(tables, files)
    assert migrated == made


def tables(file: Path) -> dict[str, str]:
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows}


@pytest.mark.e2e
def test_a_run_that_was_half_done_goes_on_and_a_new_one_is_made(nursery: Nursery, old: Old) -> None:
    with ExitStack() as stack:
        world = World(nursery, old.federation)
        stack.callback(world.kill)
        for control in world.controls.values():
            control.jump(old.wall - time.time())
        for (
            name
        ) in CLIENTS:  # 0.1.0 allowed "sealed" without a word; now a site says so, or its run ends there
            old.federation.policy(name)
        world.begin()
        assert finished(world, HALF)["model_sha256"] == old.models[1], "the model of the quiet run"
        plan = world.root / "next.toml"
        plan.write_text(plan_text("secagg", 1))
        started = world.command("run", "start", str(plan), "--json")
        done = finished(world, started["id"])
        assert done["rounds"][0]["survivors"] == list(CLIENTS)
        world.told()
        world.stop()
        check_folders(world)


def finished(world: World, run: str) -> Document:
    end = time.monotonic() + PATIENCE
    while True:
        document = world.command("run", "show", run, "--json")
        if document["state"] != "running" and document["state"] != "waiting":
            assert document["state"] == "finished", document["reason"]
            return document
        assert time.monotonic() < end, document
        time.sleep(0.2)


def test_a_newer_coordinator_s_folder_is_refused_by_both_versions(old: Old) -> None:
    open_store(old.coordinator).close()
    change(old.coordinator / "state.db", "UPDATE alembic_version SET version_num = '9000'")
    done = old.federation.cli("serve", "--dir", old.federation.operator)
    assert done.code == 3
    assert "has schema 9000" in done.err
    assert f"schemas up to {known_versions()[-1]}" in done.err
    assert "install the later version" in done.err
    assert "Traceback" not in done.err


def test_a_newer_site_s_folder_is_refused_by_both_versions(old: Old) -> None:
    change(old.site("anna") / "state.db", "PRAGMA user_version = 9000")
    done = old.federation.cli("client", "--dir", old.federation.site("anna"), "--task", "arrays=x.py:X")
    assert done.code == 3
    assert "has schema 9000" in done.err
    assert f"schemas up to {vault.VERSION}" in done.err
    assert "install the later version" in done.err
    assert "Traceback" not in done.err


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute(statement)
        database.commit()


def test_released_migrations_are_never_edited() -> None:
    versions = MIGRATIONS / "versions"
    assert {n: hashlib.sha256((versions / n).read_bytes()).hexdigest() for n in FROZEN} == FROZEN
    statements = {n: "\n".join(vault._ADDED[n]) for n in FROZEN_SITE}
    assert {n: hashlib.sha256(s.encode()).hexdigest() for n, s in statements.items()} == FROZEN_SITE
