"""The vault: what is written down is there after a restart, and nobody can change the log unseen."""

import sqlite3
import stat
from pathlib import Path

import pytest

from unisono.base.clock import ManualClock
from unisono.base.errors import BadConfiguration, Corrupt
from unisono.base.ids import ClientName, Digest, RunId
from unisono.client.runtime.files import finish_swap, folder_lock, swap_pair, write_private
from unisono.client.runtime.vault import Agreed, Identity, Vault
from unisono.client.session import Objection, Update, UpdateKey
from unisono.crypto import sha256_hex

RUN, MODEL, OTHER, SPEC = RunId("r-0001"), Digest("a" * 64), Digest("e" * 64), Digest("b" * 64)
KEY = UpdateKey(RUN, 3, MODEL, SPEC)
UPDATE = Update(KEY, "r-0001-3.update", sha256_hex(b"12345"), 5)
AGREED = Agreed(RUN, b'{"task":"t"}', Digest("c" * 64), b"{}", MODEL)


def vault(folder: Path) -> Vault:
    return Vault(folder, ManualClock())


def kinds(of: Vault) -> list[str]:
    return [line.kind for line in of.audit()]


def written(of: Vault) -> Vault:
    (of.updates / UPDATE.file).write_bytes(b"12345")
    of.finish(UPDATE, "aa")
    return of


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    first = written(vault(tmp_path))
    first.joined(Identity("cardio", ClientName("hospital-a"), 2), "fb3e")
    first.accept(AGREED)
    first.close()
    again = vault(tmp_path)
    assert again.identity() == Identity("cardio", ClientName("hospital-a"), 2)
    assert again.run(RUN) == AGREED
    assert again.update(KEY, "aa") == UPDATE
    again.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    vault(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "updates").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("key", "recipient"),
    [
        (UpdateKey(RUN, 4, MODEL, SPEC), "aa"),
        (UpdateKey(RUN, 3, OTHER, SPEC), "aa"),
        (UpdateKey(RUN, 3, MODEL, OTHER), "aa"),
        (UpdateKey(RunId("r-0002"), 3, MODEL, SPEC), "aa"),
        (KEY, "bb"),
    ],
)
def test_an_update_serves_only_for_what_it_was_made_for(
    tmp_path: Path, key: UpdateKey, recipient: str
) -> None:
    found = written(vault(tmp_path))
    assert found.update(key, recipient) is None
    found.close()


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_an_update_whose_file_is_not_whole_is_made_again(tmp_path: Path, damage: str) -> None:
    found = written(vault(tmp_path))
    path = found.updates / UPDATE.file
    path.write_bytes(b"123") if damage == "cut" else path.unlink()
    assert found.update(KEY, "aa") is None
    found.close()


def test_an_update_that_a_power_failure_tore_is_made_again(tmp_path: Path) -> None:
    """The trainer syncs nothing: a file may have its length and not its bytes after such a crash."""
    first = written(vault(tmp_path))
    (first.updates / UPDATE.file).write_bytes(bytes(5))
    first.close()
    again = vault(tmp_path)
    assert again.update(KEY, "aa") is None
    assert not (again.updates / UPDATE.file).exists()
    again.close()


def test_what_leaves_is_in_the_log_once_however_often_it_is_sent(tmp_path: Path) -> None:
    found = written(vault(tmp_path))
    found.release(UPDATE, "sealed")
    found.release(UPDATE, "sealed")
    (line,) = found.audit()
    assert (line.kind, line.detail["sha256"], line.detail["bytes"], line.detail["protection"]) == (
        "released",
        UPDATE.sha256,
        5,
        "sealed",
    )
    found.close()


def test_agreeing_and_declining_are_in_the_log_with_the_reason(tmp_path: Path) -> None:
    found = vault(tmp_path)
    no = Objection("outside_policy", "policy min_cohort = 5; the cohort has 3")
    for _ in range(2):
        found.accept(AGREED)
        found.decline(RunId("r-0002"), b"{}", OTHER, no)
    assert kinds(found) == ["accepted", "declined"]
    assert found.audit()[1].detail["reason"] == f"{no.code}: {no.reason}"
    assert found.run(RunId("r-0002")) is None
    found.close()


def test_a_round_that_is_over_takes_its_files_along(tmp_path: Path) -> None:
    found = written(vault(tmp_path))
    found.release(UPDATE, "sealed")
    found.round_over(RUN, 2)
    assert found.update(KEY, "aa") == UPDATE
    found.round_over(RUN, 3)
    assert list(found.updates.iterdir()) == []
    assert found.update(KEY, "aa") is None
    assert kinds(found) == ["released"]
    found.close()


def test_an_update_found_bad_is_made_again(tmp_path: Path) -> None:
    found = written(vault(tmp_path))
    found.forget(KEY)
    assert found.update(KEY, "aa") is None
    assert written(found).update(KEY, "aa") == UPDATE
    found.close()


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE audit SET detail = '{}' WHERE number = 2",
        "UPDATE audit SET wall = wall + 1 WHERE number = 1",
        "DELETE FROM audit WHERE number = 2",
        "UPDATE audit SET number = 9 WHERE number = 3",
    ],
)
def test_a_changed_log_is_noticed(tmp_path: Path, harm: str) -> None:
    found = vault(tmp_path)
    for number in range(3):
        found.model_leaves(RunId(f"r-{number}"), MODEL, 7)
    assert len(found.audit()) == 3
    found.close()
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute(harm)
    db.close()
    changed = vault(tmp_path)
    with pytest.raises(Corrupt, match="audit log"):
        changed.audit()
    changed.close()


def test_two_models_of_a_run_stay_and_the_newest_of_others(tmp_path: Path) -> None:
    found = vault(tmp_path)
    models = [Digest(str(n) * 64) for n in range(6)]
    for model in models[:2]:
        found.model_used(RunId("r-0000"), model, 10)
    for model in models[2:]:
        found.model_used(RUN, model, 10)
    assert set(found.strike_off(RUN, 2, 1000)) == {models[0], models[1], models[4], models[5]}
    assert set(found.strike_off(RUN, 2, 25)) == {models[4], models[5]}
    assert set(found.strike_off(RUN, 2, 0)) == {models[5]}
    found.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    vault(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(BadConfiguration, match="schema 99"):
        vault(tmp_path)


def test_a_folder_serves_one_process(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(BadConfiguration, match="in use"), folder_lock(tmp_path):
        pass
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("crash_after", ["key", "certificate", "first rename"])
def test_a_swap_of_key_and_certificate_is_whole_whenever_it_is_cut(tmp_path: Path, crash_after: str) -> None:
    swap_pair(tmp_path, "tls", b"old key", b"old certificate")
    write_private(tmp_path / "tls.key.new", b"new key")
    if crash_after != "key":
        write_private(tmp_path / "tls.pem.new", b"new certificate")
    if crash_after == "first rename":
        (tmp_path / "tls.key.new").replace(tmp_path / "tls.key")
    finish_swap(tmp_path, "tls")
    pair = (tmp_path / "tls.key").read_bytes(), (tmp_path / "tls.pem").read_bytes()
    assert pair == (
        (b"old key", b"old certificate") if crash_after == "key" else (b"new key", b"new certificate")
    )


def test_files_that_a_crash_left_behind_go_at_the_next_start(tmp_path: Path) -> None:
    """Found by crash points: killed between the end of a row and the end of its file."""
    first = written(vault(tmp_path))
    attempt = "INSERT INTO attempts VALUES ('r-0001', 3, ?, ?, NULL, '')"
    with first.transaction() as db:
        db.executemany(attempt, [(1, None), (2, b"open")])
    digest = "d" * 64
    kept = {UPDATE.file, f"r-0001-3-2-{digest}.masked", "r-0001-3-2.masking"}
    for name in (*kept, f"r-0001-3-1-{digest}.masked", "r-0001-3-1.masking", "r-0001-2-aa.update", "x.part"):
        (first.updates / name).write_bytes(b"12345")
    first.close()
    again = vault(tmp_path)
    assert {path.name for path in again.updates.iterdir()} == kept
    again.close()
