"""What containers say at every start: found once, one token, join as a free site, train once, be asked."""

import json
from pathlib import Path

import pytest
from harness import TASKS, Federation, Process, eventually

pytestmark = pytest.mark.e2e

PLAN = 'task = "arrays"\n[rounds]\ncount = 2\n[cohort]\nsize = 2\n[protection]\nmode = "sealed"\n'


def container(federation: Federation, number: int, token: Path, *more: str) -> Process:
    """Start a client as a container does; the policy is not the container's business."""
    federation.environment["UNISONO_HEALTH_FILE"] = str(federation.root / f"health-{number}")
    process = federation._start(
        f"container-{number}", "client", "--pool", federation.root / "sites", "--token", token,
        "--join", f"localhost:{federation.port}", "--task", f"arrays={TASKS}:Arrays", *more,
    )  # fmt: skip
    del federation.environment["UNISONO_HEALTH_FILE"]
    return process


def test_init_once_keeps_what_is_there(federation: Federation) -> None:
    before = (federation.operator / "coordinator" / "ca.pem").read_bytes()
    words = ("init", federation.operator, "--once", "--host", "localhost")
    assert "already; it stays as it is" in federation.ok(*words)
    assert (federation.operator / "coordinator" / "ca.pem").read_bytes() == before
    other = federation.cli(*words, "--host", "fl.example.org")
    assert other.code == 3
    assert "is reached as localhost, not as fl.example.org" in other.err
    assert "add the name to hosts in" in other.err


def test_init_takes_empty_folders_for_missing_ones(federation: Federation) -> None:
    for name in ("coordinator", "admin"):
        (federation.root / "volumes" / name).mkdir(parents=True, mode=0o755)
    federation.ok("init", federation.root / "volumes", "--once", "--host", "localhost")
    assert (federation.root / "volumes" / "coordinator").stat().st_mode & 0o777 == 0o700
    (federation.root / "volumes" / "admin" / "admin.toml").unlink()
    again = federation.cli("init", federation.root / "volumes", "--host", "localhost")
    assert (again.code, "exists already" in again.err) == (3, True)


def test_a_token_is_kept_while_it_can_be_used(federation: Federation) -> None:
    federation.serve()
    file = federation.root / "shared.token"
    words = ("token", "create", "--once", "--uses", "2", "--name-prefix", "site", "-o", file)
    federation.ok(*words, "--ttl", "2h", "--dir", federation.operator)
    first = file.read_text()
    federation.ok(*words, "--ttl", "2h", "--dir", federation.operator)
    assert file.read_text() == first
    federation.ok(*words, "--ttl", "24h", "--dir", federation.operator)
    assert file.read_text() != first  # less than a tenth of what is asked was left
    assert federation.cli("token", "create", "x", "--once", "--dir", federation.operator).code == 3


def test_copies_are_sites_of_their_own_and_stay_them(federation: Federation) -> None:
    federation.serve()
    file = federation.root / "shared.token"
    federation.ok(
        "token", "create", "--uses", "9", "--name-prefix", "site", "-o", file, "--dir", federation.operator
    )
    copies = [container(federation, number, file) for number in (1, 2)]
    for copy in copies:
        copy.says("event=connected")
    for name in ("site-1", "site-2"):
        policy = federation.root / "sites" / name / "client" / "policy.toml"
        policy.write_text('protections = ["sealed"]\n')
    keys = {p.parent.parent.name: p.read_bytes() for p in federation.root.glob("sites/*/client/signing.key")}
    for copy in copies:
        assert copy.stop() == 0, copy.text
    for copy in [container(federation, number, file) for number in (3, 4)]:
        copy.says("event=connected")
        assert "joined" not in copy.text
    assert keys == {
        p.parent.parent.name: p.read_bytes() for p in federation.root.glob("sites/*/client/signing.key")
    }
    plan = federation.root / "once.toml"
    plan.write_text(PLAN)
    start = ("run", "start", plan, "--once", "--watch", "--dir", federation.operator)
    assert "state=finished" in federation.ok(*start)
    again = federation.cli(*start)
    assert (again.code, "r-0001 is a run of this plan already, finished" in again.err) == (0, True)
    assert len(federation.operate("run", "list")["runs"]) == 1


def test_a_container_is_asked_how_it_is(federation: Federation) -> None:
    coordinator = federation.serve()
    token = federation.token("dora")
    copy = container(federation, 1, token)
    copy.says("event=connected")
    federation.environment["UNISONO_HEALTH_FILE"] = str(federation.root / "health-1")

    def health() -> tuple[int, str]:
        said = federation.cli("health", "--local", "--dir", federation.root / "nowhere")
        return said.code, said.out

    eventually(lambda: health()[0] == 0, 20, lambda: str(health()))
    coordinator.kill()
    eventually(lambda: health()[0] == 1, 30, lambda: str(health()))
    code, said = health()
    assert f"cannot reach localhost:{federation.port}" in said
    assert len(said.splitlines()) == 1
    federation.serve()
    eventually(lambda: health()[0] == 0, 30, lambda: str(health()))
    assert copy.stop() == 0, copy.text
    code, said = health()
    assert (code, "no client runs here" in said) == (1, True)


def test_a_coordinator_is_asked_how_it_is(federation: Federation) -> None:
    federation.settings(ops_port=0)
    federation.environment["UNISONO_OPS_PORT"] = str(federation.port + 1)
    coordinator = federation.serve()
    words = ("health", "--local", "--dir", federation.operator)
    assert federation.ok(*words) == "the coordinator is ready\n"
    told = json.loads(federation.ok(*words, "--json"))
    assert told["status"] == "ok"
    coordinator.stop()
    federation.environment["UNISONO_MIN_FREE_BYTES"] = str(10**15)
    federation.serve()
    full = federation.cli(*words)
    assert (full.code, "not ready: disk" in full.out) == (1, True), full


@pytest.mark.parametrize(
    ("secret", "code", "words"),
    [
        ("missing", 3, "there is no such file"),
        ("folder", 3, "check its path on the host"),
        ("empty", 4, "token"),
    ],
)
def test_a_secret_that_is_none(federation: Federation, secret: str, code: int, words: str) -> None:
    file = federation.root / "secret"
    if secret == "folder":  # noqa: S105
        file.mkdir()
    elif secret == "empty":  # noqa: S105
        file.write_text("")
    process = container(federation, 1, file)
    assert process.wait() == code, process.text
    assert words in process.text
    assert len(process.text.splitlines()) <= 3


def test_asked_to_leave_while_it_waits_to_join(federation: Federation) -> None:
    federation.serve()
    token = federation.token("dora")
    federation.end()
    copy = container(federation, 1, token)
    copy.says("trying again")
    assert copy.stop() == 0, copy.text
    assert not (federation.root / "health-1").exists()


def test_join_and_token_belong_together(federation: Federation) -> None:
    done = federation.cli("client", "--join", "localhost:1")
    assert (done.code, "belong together" in done.err) == (3, True)
