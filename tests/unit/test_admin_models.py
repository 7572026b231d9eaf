"""The operator's commands about models."""

from pathlib import Path

import pytest
from admin_world import MODEL, Desk, credentials

from unisono.crypto import sha256_hex


@pytest.mark.parametrize("role", ["admin", "client"])
def test_a_model_is_pulled_with_its_card(desk: Desk, tmp_path: Path, role: str) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    credentials(folder, desk.address, role=role)
    desk.state.cut = 1
    target = tmp_path / "m.safetensors"
    desk.folder = folder
    found = desk.json("model", "pull", "-o", str(target))
    assert target.read_bytes() == MODEL
    assert desk.state.offsets == [0, 1 << 20]
    assert desk.state.peers == [role]
    assert (found["sha256"], found["round"]) == (sha256_hex(MODEL), 2)
    card = target.with_suffix(".md").read_text()
    for words in (
        "| run | r-0007 |",
        "ab" * 32,
        "loss 0.5  accuracy 0.9",
        "| clients | 2 |",
        sha256_hex(MODEL),
    ):
        assert words in card
    assert ("## Rounds" in card) == (role == "admin")


def test_a_model_that_does_not_match_its_digest_is_not_kept(desk: Desk, tmp_path: Path) -> None:
    desk.state.served = MODEL[:-1] + b"x"
    code, out, err = desk.run("model", "pull", "-o", str(tmp_path / "m.safetensors"))
    assert (code, out) == (1, "")
    assert "have digest" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["admin"]


def test_models_are_listed_and_a_missing_round_names_those_there_are(desk: Desk, tmp_path: Path) -> None:
    assert "best" in desk.run("model", "list")[1].splitlines()[1]
    code, _, err = desk.run("model", "pull", "--round", "9", "-o", str(tmp_path / "m.safetensors"))
    assert code == 1
    assert "keeps no model of round 9; kept: 1 (best), 2" in err
    assert desk.run("model", "pull", "-o", str(tmp_path / "no" / "m.safetensors"))[0] == 3
