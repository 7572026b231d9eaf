"""What only the SQLite store can show: files, processes, locks, schemas."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from unisono.base.errors import BadConfiguration, Corrupt, Fault, Unavailable
from unisono.base.ids import RunId
from unisono.server.rounds import Forget
from unisono.server.store import open_store, schema
from unisono.server.store.database import Database
from unisono.server.store.migrating import MIGRATIONS, known_versions

SAVER = """
import sys
from pathlib import Path
from dataclasses import replace
from unisono import plan as plans
from unisono.server.rounds import Forget, begin
from unisono.server.store import Change, open_store

store = open_store(Path(sys.argv[1]))
plan = plans.Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})
step = begin(plan, 0.0)
run = store.create(plans.canonical(plan), plans.digest(plan), step, 0.0, 0.0, "admin")
for number in range(1, 1_000_000):
    change = Change(replace(step.run, round=number), float(number), 0.0, effects=(Forget(number, 1),))
    store.save(run, change)
    print(number, flush=True)
"""


def start_saver(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", SAVER, str(folder)], stdout=subprocess.PIPE, text=True)  # noqa: S603


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with start_saver(tmp_path) as saver:
        assert saver.stdout is not None
        lines = [saver.stdout.readline() for _ in range(40)]
        saver.send_signal(signal.SIGKILL)
        lines += saver.stdout.readlines()
    acknowledged = int([line for line in lines if line.endswith("\n")][-1])
    store = open_store(tmp_path)
    stored = store.load(RunId("r-0001"))
    assert stored.run.round in (acknowledged, acknowledged + 1)  # the last answer may have been on its way
    assert stored.now == stored.run.round  # one transaction: never half of it
    assert [e for _, e in stored.todo] == [Forget(number, 1) for number in range(1, stored.run.round + 1)]
    store.verify_audit()
    store.close()


def test_a_second_coordinator_is_told_who_is_there(tmp_path: Path) -> None:
    with start_saver(tmp_path) as saver:
        assert saver.stdout is not None
        saver.stdout.readline()
        with pytest.raises(BadConfiguration, match=f"another coordinator, process {saver.pid};"):
            open_store(tmp_path)
        saver.kill()
        saver.stdout.read()
    store = open_store(tmp_path)  # the kernel let go of the dead one's lock
    with pytest.raises(BadConfiguration, match=f"process {os.getpid()};"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="unisono init"):
        open_store(tmp_path / "nowhere")


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put_meta("a", "b")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    assert {"state.db", "state.db-wal", "lock"} <= set(modes)
    assert set(modes.values()) == {0o600}


def columns(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    """Return name, type, nullability, default and place in the key of every column."""
    with engine.connect() as connection:
        return {
            table: [tuple(row) for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")]
            for table in schema.metadata.tables
        }


def test_the_tables_are_what_the_migrations_make(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    migrated = sa.create_engine(sa.URL.create("sqlite", database=str(tmp_path / "state.db")))
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    direct = sa.create_engine(sa.URL.create("sqlite", database=str(tmp_path / "direct.db")))
    schema.metadata.create_all(direct)
    assert columns(migrated) == columns(direct)
    migrated.dispose()
    direct.dispose()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [known_versions()[-1]]


def test_a_newer_schema_is_refused_naming_both(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(BadConfiguration, match=rf"schema 9999.*up to {known_versions()[-1]}"):
        open_store(tmp_path)
    with pytest.raises(BadConfiguration, match="9999"):  # and the folder is free again
        open_store(tmp_path)


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("CREATE TABLE recipes (name)")
    database.close()
    with pytest.raises(BadConfiguration, match="'recipes'"):
        open_store(tmp_path)
    (tmp_path / "state.db").write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(Fault, match=r"state\.db is damaged"):
        open_store(tmp_path)


def test_an_interrupted_migration_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, broken)
    first = next((broken / "versions").glob("0001*.py"))
    first.write_text(first.read_text() + "\n\n_files = None\n")  # fails when most tables are made
    monkeypatch.setattr("unisono.server.store.migrating.MIGRATIONS", broken)
    folder = tmp_path / "coordinator"
    folder.mkdir()
    with pytest.raises(TypeError):
        open_store(folder)
    monkeypatch.undo()
    store = open_store(folder)
    assert store.runs() == {"runs": [], "runs_total": 0}
    store.close()


def test_a_current_database_opens_without_alembic(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    code = (
        "import sys; from pathlib import Path; from unisono.server.store import open_store; "
        "open_store(Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE audit SET body = '{}' WHERE seq = 2", "line 2 .* was changed"),
        ("UPDATE audit SET wall = wall + 1 WHERE seq = 1", "line 1 .* was changed"),
        ("UPDATE audit SET subject = 'x' WHERE seq = 3", "line 3 .* was changed"),
        ("DELETE FROM audit WHERE seq = 2", "line 2 is missing"),
        ("UPDATE audit SET seq = CASE seq WHEN 1 THEN -2 ELSE -1 END WHERE seq < 3", "line 1 is missing"),
    ],
)
def test_the_audit_log_shows_what_was_changed(tmp_path: Path, tampering: str, found: str) -> None:
    store = open_store(tmp_path)
    for number in range(1, 4):
        store.add_token(f"t{number}", "site", 2, 100.0, "admin", float(number))
    assert store.verify_audit()[0] == 3
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute(tampering)
    database.close()
    with pytest.raises(Corrupt, match=found):
        store.verify_audit()
    store.close()


def test_a_full_disk_is_a_passing_trouble(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")

    def write_much() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 3")
            connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(100000))")

    with pytest.raises(Unavailable, match="disk full") as full:
        write_much()
    assert full.value.retry_after == 10.0
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
    database.close()
