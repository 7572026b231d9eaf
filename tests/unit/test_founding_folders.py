"""`unisono init`: two folders, private from the first byte, or nothing at all."""

import stat
from pathlib import Path

import pytest

from unisono.base.errors import BadConfiguration
from unisono.crypto import SealingKey, TlsKey
from unisono.identity import check_issued, peer_of, sealing_public
from unisono.server import founding
from unisono.server.config import Config
from unisono.server.folder import Folder, read_private
from unisono.server.founding import found
from unisono.server.process import open_hall
from unisono.server.store import open_store

NOW = 1_700_000_000.0


def test_what_is_made_fits_together_and_is_private(tmp_path: Path) -> None:
    made = found(tmp_path / "deep" / "cardio", ["fl.example.org", "10.0.0.1"], 9000, "cardio", NOW)
    folder = Folder.find(tmp_path / "deep" / "cardio")
    assert folder == Folder.find(made.coordinator)
    files = [path for path in (tmp_path / "deep" / "cardio").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made.coordinator, made.admin)} == {0o700}
    ca = folder.ca.read_bytes()
    sealing = SealingKey.from_bytes(folder.sealing_key.read_bytes())
    assert sealing_public(folder.sealing.read_bytes(), ca, NOW) == sealing.public
    admin = (made.admin / "admin.pem").read_bytes()
    check_issued(admin, ca, NOW)
    assert peer_of(admin).kind == "admin"
    TlsKey.from_pem((made.admin / "admin.key").read_bytes())
    assert not list(made.admin.glob("ca.key"))
    config = Config.load(folder.config.read_bytes())
    assert (config.hosts, config.port) == (("fl.example.org", "10.0.0.1"), 9000)
    assert (made.admin / "admin.toml").read_text() == 'coordinator = "fl.example.org:9000"\n'
    hall = open_hall(folder, config)
    hall.ledger.allow(peer_of(admin))
    with pytest.raises(BadConfiguration, match="in use by another coordinator"):
        open_hall(folder, config)
    hall.workers.close()
    hall.store.close()


def test_an_address_of_version_6_is_bracketed(tmp_path: Path) -> None:
    made = found(tmp_path / "cardio", ["::1"], 8443, "cardio", NOW)
    assert (made.admin / "admin.toml").read_text() == 'coordinator = "[::1]:8443"\n'


@pytest.mark.parametrize(
    ("hosts", "name", "words"),
    [
        ([], "cardio", "--host"),
        (["not a host!"], "cardio", "names or addresses"),
        (["a.example"], "Cardio?", '"Cardio\\?" cannot name a federation'),
    ],
)
def test_wrong_words_make_nothing(tmp_path: Path, hosts: list[str], name: str, words: str) -> None:
    with pytest.raises(BadConfiguration, match=words):
        found(tmp_path / "cardio", hosts, 8443, name, NOW)
    assert not (tmp_path / "cardio").exists()


def test_what_exists_is_not_touched(tmp_path: Path) -> None:
    made = found(tmp_path, ["a.example"], 8443, "cardio", NOW)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(BadConfiguration, match=f"{made.coordinator} exists already"):
        found(tmp_path, ["a.example"], 8443, "cardio", NOW)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_an_operator_who_lost_the_folder_gets_another(tmp_path: Path) -> None:
    """Nobody else could let one in again: an expired certificate cannot ask for its renewal."""
    made = found(tmp_path, ["a.example", "b.example"], 9000, "cardio", NOW)
    before = {path: path.read_bytes() for path in made.coordinator.iterdir() if path.name != "state.db"}
    old = (made.admin / "admin.pem").read_bytes()
    made.admin.rename(tmp_path / "old")
    with pytest.raises(BadConfiguration, match=r"reached as a\.example, b\.example, not as c\.example"):
        found(tmp_path, ["c.example"], 8443, "other", NOW)
    assert not made.admin.exists()
    store = open_store(made.coordinator)
    with pytest.raises(BadConfiguration, match="in use by another coordinator"):
        found(tmp_path, ["b.example"], 8443, "other", NOW)
    store.close()
    assert not made.admin.exists()
    again = found(tmp_path, ["b.example"], 8443, "other", NOW)
    assert (again.federation, again.again) == ("cardio", True)
    new = (made.admin / "admin.pem").read_bytes()
    check_issued(new, (made.admin / "ca.pem").read_bytes(), NOW)
    assert peer_of(new).kind == "admin"
    assert peer_of(new).serial != peer_of(old).serial
    assert (made.admin / "admin.toml").read_text() == 'coordinator = "b.example:9000"\n'
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.admin.iterdir()} == {0o600}
    assert stat.S_IMODE(made.admin.stat().st_mode) == 0o700
    assert all(path.read_bytes() == data for path, data in before.items() if path.name != "lock")


def test_a_failure_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(founding, "_write_admin", full)
    with pytest.raises(BadConfiguration, match=r"cannot make .*: No space left on device"):
        found(tmp_path / "cardio", ["a.example"], 8443, "cardio", NOW)
    assert list((tmp_path / "cardio").iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadConfiguration, match=r"cannot make .*file"):
        found(tmp_path / "file", ["a.example"], 8443, "cardio", NOW)


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    made = found(tmp_path, ["a.example"], 8443, "cardio", NOW)
    folder = Folder.find(tmp_path)
    folder.ca_key.chmod(0o640)
    with pytest.raises(BadConfiguration, match=f"chmod 600 {folder.ca_key}"):
        open_hall(folder, Config.load(folder.config.read_bytes()))
    with pytest.raises(BadConfiguration, match="cannot read the key"):
        read_private(made.coordinator / "nowhere", "the key")
    with pytest.raises(BadConfiguration, match="there is no coordinator"):
        Folder.find(made.admin)
    open_store(made.coordinator).close()  # nothing stays locked
