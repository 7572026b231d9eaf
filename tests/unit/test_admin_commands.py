"""The operator's commands about members: tokens, clients, revocation, health."""

import stat

import pytest
from admin_world import LINE, Desk


def test_a_token_is_one_line(desk: Desk) -> None:
    code, out, _ = desk.run("token", "create", "hospital-a", "--ttl", "2h")
    assert (code, out) == (0, LINE + "\n")
    asked = desk.state.tokens[0]
    assert (asked.name, asked.ttl_seconds, asked.uses) == ("hospital-a", 7200.0, 1)


def test_a_token_in_a_file_is_for_its_owner_and_never_overwritten(desk: Desk) -> None:
    file = desk.folder / "a.token"
    code, out, err = desk.run("token", "create", "hospital-a", "-o", str(file))
    assert (code, out) == (0, "")
    assert f"unisono join {desk.address} --token {file}" in err
    assert file.read_text() == LINE + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert desk.run("token", "create", "hospital-a", "-o", str(file))[0] == 3
    assert len(desk.state.tokens) == 1  # refused before another token was made


def test_a_token_for_many_numbers_its_clients(desk: Desk) -> None:
    assert desk.json("token", "create", "--uses", "3", "--name-prefix", "edge")["uses"] == 3
    assert (desk.state.tokens[0].name, desk.state.tokens[0].uses) == ("edge", 3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "needs the name of its client"),
        (["a", "--name-prefix", "b"], "not both"),
        (["a", "--uses", "2"], "cannot all be called"),
        (["Hospital A"], "cannot be a client's name"),
        (["a", "--ttl", "tomorrow"], "is not a duration"),
    ],
)
def test_a_wrong_token_is_refused_before_anyone_is_asked(desk: Desk, argv: list[str], message: str) -> None:
    code, out, err = desk.run("token", "create", *argv)
    assert (code, out) == (3, "")
    assert message in err
    assert len(err.splitlines()) <= 3
    assert not desk.state.tokens


def test_clients_for_people_and_for_scripts(desk: Desk) -> None:
    code, out, _ = desk.run("clients")
    assert code == 0
    head, first, second = out.splitlines()
    assert head.split()[:3] == ["number", "name", "state"]
    assert first.split()[:4] == ["1", "hospital-a", "online", "now"]
    assert second.split()[:4] == ["2", "hospital-b", "offline", "never"]
    clients = desk.json("clients")["clients"]
    assert isinstance(clients, list)
    assert clients[0]["software"] == "0.1.0"


def test_revoke(desk: Desk) -> None:
    assert desk.run("revoke", "hospital-a", "--reason", "left")[0] == 0
    assert desk.state.revoked == {"hospital-a": "left"}
    assert desk.run("revoke", "hospital-z") == (1, "", 'nobody is called "hospital-z"\n')


def test_revoke_an_operator(desk: Desk) -> None:
    assert desk.run("revoke", "--operator", "ann") == (1, "", "the last one\n")
    code, out, _ = desk.run("revoke", "--operator", "ann", "--reason", "folder stolen", "--force")
    assert (code, out.splitlines()[0]) == (
        0,
        "operator ann is revoked: 2 certificates and 1 open tokens are refused now",
    )
    assert desk.state.revoked == {"operator ann": "folder stolen"}
    for wrong in ([], ["hospital-a", "--operator", "ann"], ["hospital-a", "--force"]):
        code, out, err = desk.run("revoke", *wrong)
        assert (code, out) == (3, "")
        assert len(err.splitlines()) <= 3
    assert len(desk.state.revoked) == 1


def test_no_token_left_is_said_in_words(desk: Desk) -> None:
    assert "no token can be used" in desk.run("token", "list")[1]


def test_health_is_an_exit_code(desk: Desk) -> None:
    code, out, _ = desk.run("health")
    assert code == 0
    assert f'{desk.address} is ok: federation "cardio"' in out
    desk.state.health = "degraded"
    code, out, _ = desk.run("health")
    assert code == 1
    assert "attention: the disk is nearly full" in out
