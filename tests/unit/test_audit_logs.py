"""Audit logs as they lie on a disk: what was done to one behind its owner's back is named."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from unisono.audit import START, find_log
from unisono.base.errors import BadConfiguration, Corrupt
from unisono.base.ids import ClientName, Digest
from unisono.base.system_clock import SystemClock
from unisono.client.admin.audit_commands import show, verify
from unisono.client.runtime.vault import Identity, Vault
from unisono.client.session import Objection
from unisono.server.store import open_store

Make = Callable[[Path], Path]


def coordinator(folder: Path) -> Path:
    made = folder / "coordinator"
    made.mkdir(parents=True)
    (made / "sealing.key").touch()
    store = open_store(made)
    for number in range(6):
        store.add_token(f"{number:02x}", f"site-{number}", 1, 2000.0, "operator", 1000.0 + number)
    store.close()
    return made / "state.db"


def site(folder: Path) -> Path:
    made = folder / "client"
    made.mkdir(parents=True)
    (made / "client.toml").touch()
    vault = Vault(made, SystemClock())
    vault.joined(Identity("cardio", ClientName("hospital-a"), 1), "ab" * 32)
    for number in range(5):
        vault.decline(f"r-000{number}", b"{}", Digest("00" * 32), Objection("no", f"for reason {number}"))  # type: ignore[arg-type]
    vault.close()
    return made / "state.db"


SIDES = pytest.mark.parametrize("make", [coordinator, site])


def alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def number_of(make: Make) -> str:
    return "seq" if make is coordinator else "number"


@SIDES
def test_a_whole_log_is_whole(make: Make, tmp_path: Path) -> None:
    make(tmp_path)
    count, head, line = find_log(tmp_path).verify()
    assert (count, line) == (6, None)
    rows = list(find_log(tmp_path).rows())
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1].hash == head
    assert find_log(tmp_path).verify(rows[2].hash) == (6, head, 3)
    assert find_log(tmp_path).verify(START) == (6, head, 0)


@SIDES
def test_a_changed_line_is_named(make: Make, tmp_path: Path) -> None:
    column = "body" if make is coordinator else "detail"
    alter(make(tmp_path), f"UPDATE audit SET {column} = '{{}}' WHERE {number_of(make)} = 4")  # noqa: S608
    with pytest.raises(Corrupt, match=r"audit line 4 \(\w+\) was changed"):
        find_log(tmp_path).verify()


@SIDES
def test_a_line_taken_out_is_named(make: Make, tmp_path: Path) -> None:
    alter(make(tmp_path), f"DELETE FROM audit WHERE {number_of(make)} = 3")  # noqa: S608
    with pytest.raises(Corrupt, match="audit line 3 is missing: line 2 is followed by line 4"):
        find_log(tmp_path).verify()


@SIDES
def test_a_line_taken_out_with_the_rest_numbered_anew_is_named(make: Make, tmp_path: Path) -> None:
    name = number_of(make)
    path = make(tmp_path)
    alter(path, f"DELETE FROM audit WHERE {name} = 3")  # noqa: S608
    for number in (4, 5, 6):
        alter(path, f"UPDATE audit SET {name} = {number - 1} WHERE {name} = {number}")  # noqa: S608
    with pytest.raises(Corrupt, match="audit line 3 "):
        find_log(tmp_path).verify()


@pytest.mark.parametrize("column", ["kind", "run", "subject", "body"])
def test_a_line_whose_values_have_other_types_is_named(column: str, tmp_path: Path) -> None:
    """Its hash fits, but `audit show --what` would not find it."""
    with closing(sqlite3.connect(coordinator(tmp_path))) as db, db:
        db.execute(f"UPDATE audit SET {column} = CAST({column} AS BLOB) WHERE seq = 3")  # noqa: S608
    with pytest.raises(Corrupt, match="audit line 3 was changed: it holds values of other types"):
        find_log(tmp_path).verify()


@SIDES
def test_exchanged_lines_are_named(make: Make, tmp_path: Path) -> None:
    name = number_of(make)
    moves = [f"UPDATE audit SET {name} = {b} WHERE {name} = {a}" for a, b in ((2, 99), (5, 2), (99, 5))]  # noqa: S608
    alter(make(tmp_path), *moves)
    with pytest.raises(Corrupt, match="audit line 2 "):
        find_log(tmp_path).verify()


def test_a_line_put_in_with_a_hash_of_its_own_is_named(tmp_path: Path) -> None:
    """The forger computes line 3 anew, but not the lines after it."""
    path = site(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        before = db.execute("SELECT digest FROM audit WHERE number = 2").fetchone()[0]
    from unisono.audit.chain import site_line  # noqa: PLC0415

    forged = site_line(Digest(before), 3, 5.0, "joined", "{}")
    values = f"wall = 5.0, kind = 'joined', detail = '{{}}', digest = '{forged}'"
    alter(path, f"UPDATE audit SET {values} WHERE number = 3")  # noqa: S608
    with pytest.raises(Corrupt, match="audit line 4 "):
        find_log(tmp_path).verify()


@SIDES
def test_an_end_that_was_cut_off_is_missed_by_whoever_noted_the_head(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path)
    noted = find_log(tmp_path).verify()[1]
    alter(path, f"DELETE FROM audit WHERE {number_of(make)} > 4")  # noqa: S608
    assert find_log(tmp_path).verify()[0] == 4  # by itself it looks whole
    with pytest.raises(Corrupt, match=f"no line of this log has the hash {noted}"):
        find_log(tmp_path).verify(noted)


def test_a_log_is_checked_while_its_process_writes(tmp_path: Path) -> None:
    store = open_store(coordinator(tmp_path).parent)
    store.add_token("ff", "late", 1, 2000.0, "operator", 3000.0)
    assert find_log(tmp_path).verify()[0] == 7
    store.close()


def test_the_commands_print_and_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coordinator(tmp_path)
    verify(directory=tmp_path, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["side"], found["lines"]) == ("coordinator", 6)
    verify(head=found["head"], directory=tmp_path)
    assert f"noted  {found['head']} is line 6; no line was added since" in capsys.readouterr().out
    show(directory=tmp_path, limit=2)
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["line", "5", "6"]
    assert shown.err == f"head {found['head']}\n"
    show(directory=tmp_path, what="token_created", limit=0, as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 6
    with pytest.raises(BadConfiguration, match="not a SHA-256"):
        verify(head="abc", directory=tmp_path)


def test_what_is_no_log_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="there is no audit log in"):
        find_log(tmp_path)
    coordinator(tmp_path)
    site(tmp_path)
    with pytest.raises(BadConfiguration, match="holds a coordinator and a site"):
        find_log(tmp_path)
    assert find_log(tmp_path / "client").side == "client"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    coordinator(tmp_path).write_bytes(b"x" * 5000)
    with pytest.raises(Corrupt, match="cannot be read as an audit log"):
        find_log(tmp_path).verify()
