"""Somebody at the site looks at a plan and answers, while the client runs and while it does not."""

import json
import stat
from pathlib import Path

import pytest

from unisono.base.errors import BadConfiguration, NotFound
from unisono.cli import main
from unisono.client.runtime.approvals import FOLDER, MOST, Answer, Approvals, Pinned, Question
from unisono.client.runtime.files import folder_lock
from unisono.plan import Plan, canonical, digest

PINNED = Pinned(run="r-0007", digest="ab" * 32, sites=(("a", "1" * 64), ("b", "2" * 64), ("c", "3" * 64)))


def plan(seed: int = 1, mode: str = "secagg", **more: object) -> Plan:
    return Plan.model_validate({"task": "readmission", "seed": seed, "protection": {"mode": mode}, **more})


def question(of: Plan, run: str = "r-0007", asked: float = 1000.0, waits: bool = True) -> Question:
    return Question(
        digest=digest(of), plan=canonical(of).decode(), run=run, cohort=4, asked=asked, waits=waits
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site" / "client"
    folder.mkdir(parents=True)
    (folder / "client.toml").write_text('coordinator = "localhost:1"')
    return folder


def run(site: Path, *argv: str) -> int:
    return main(["client", "plans", *argv, "--dir", str(site.parent)])


def shown(site: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(site, *argv) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_plan_waits_until_somebody_approves_it(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client, asked = Approvals(site), question(plan())
    with folder_lock(site):  # the client runs
        client.ask(asked)
        assert client.answer(asked.digest) is None
        listed = shown(site, capsys)
        assert f"{asked.digest[:8]} r-0007 readmission waiting 1970-01-01T00:16:40Z" in listed
        assert run(site, "approve", asked.digest[:8]) == 0
        answer = client.answer(asked.digest)
    assert answer is not None
    assert answer.said == "approved"
    assert f"{asked.digest[:8]} approved: readmission, asked for r-0007" in capsys.readouterr().out


def test_a_rejection_carries_its_reason_and_can_be_taken_back(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, asked = Approvals(site), question(plan())
    client.ask(asked)
    assert run(site, "reject", asked.digest) == 2  # a reason is due
    assert run(site, "reject", asked.digest[:12], "--reason", "not before the vote") == 0
    answer = client.answer(asked.digest)
    assert answer is not None
    assert (answer.said, answer.reason) == ("rejected", "not before the vote")
    assert "rejected 19" not in capsys.readouterr().out
    assert "not before the vote" in shown(site, capsys, "show", asked.digest[:8])
    assert run(site, "approve", asked.digest[:8]) == 0
    answer = client.answer(asked.digest)
    assert answer is not None
    assert answer.said == "approved"


def test_files_are_private_and_whole(site: Path) -> None:
    client, asked = Approvals(site), question(plan())
    client.ask(asked)
    assert run(site, "approve", asked.digest[:8]) == 0
    folder = site / FOLDER
    assert {path.name for path in folder.iterdir()} == {f"{asked.digest}.json", f"{asked.digest}.answer"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_plan_in_words(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = plan(
        rounds={"count": 5},
        stop={"metric": "accuracy", "target": 0.9, "patience": 3, "max_seconds": 60.0},
        task_parameters={"horizon": 30, "evil": "\x1b[2J"},
    )
    asked = question(wanted)
    Approvals(site).ask(asked)
    words = shown(site, capsys, "show", asked.digest[:8])
    for part in (
        '"readmission": 5 rounds, 3 attempts each at most',
        "1 epoch in each round, batches of 32, adam, learning rate 0.01",
        "after 5 rounds, or when accuracy reaches 0.9, or after 3 rounds without better accuracy, ",
        "fedavg (server_learning_rate = 1.0)" if "server_learning_rate" in asked.plan else "fedavg",
        "hidden with the update: the coordinator reads sums over several sites only",
        "a sum holds 3 updates at least; any 3 of 4 must stay; 1 may conspire with the coordinator",
        "examples, code",
        " ".join(asked.digest[at : at + 4] for at in range(0, 64, 4)),
        "the roster is not known before the run starts",
        f"unisono client plans approve {asked.digest[:8]}",
        "horizon = 30",
    ):
        assert part in words
    assert "\x1b" not in words


def test_sealed_is_said_loudly(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = question(plan(mode="sealed"))
    Approvals(site).ask(asked)
    words = shown(site, capsys, "show", asked.digest[:8])
    assert "THE COORDINATOR READS THIS SITE'S UPDATE" in words
    assert "roster" not in words


def test_the_roster_s_promise_follows_from_who_compared_it(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, asked = Approvals(site), question(plan())
    client.ask(asked)
    client.pin(asked.digest, PINNED)
    name = asked.digest[:8]
    assert run(site, "approve", name) == 0
    words = shown(site, capsys, "show", name)
    assert (
        "3 sites of r-0007 (a, b, c); nobody compared it, so the promise holds against a coordinator" in words
    )
    assert " ".join(["abab"] * 16) in words
    assert run(site, "approve", name, "--roster", "cd" * 32) == 3
    assert f"has another digest: {PINNED.digest}" in capsys.readouterr().err
    assert run(site, "approve", name, "--roster", "abcd") == 3
    assert run(site, "approve", name, "--roster", " ".join(["ABAB"] * 16)) == 0
    capsys.readouterr()
    assert "somebody here compared it" in shown(site, capsys, "show", name)
    client.pin(asked.digest, PINNED.model_copy(update={"in_policy": True}))
    assert "policy.toml names it" in shown(site, capsys, "show", name)


def test_documents_for_scripts(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client, asked = Approvals(site), question(plan())
    assert run(site, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"plans": []}
    client.ask(asked)
    client.pin(asked.digest, PINNED)
    assert run(site, "show", asked.digest[:8], "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sites"][2] == {"name": "c", "key_sha256": "3" * 64}
    del told["sites"]
    assert told == {
        "id": asked.digest[:8], "plan_sha256": asked.digest, "run": "r-0007", "task": "readmission",
        "state": "waiting", "reason": "", "asked": 1000.0, "answered": None, "roster_sha256": "ab" * 32,
        "compared": False,
    }  # fmt: skip


def test_a_plan_within_policy_is_listed_and_asks_nobody(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, asked = Approvals(site), question(plan(), waits=False)
    client.ask(asked)
    (record,) = client.records()
    assert (record.state, record.id) == ("within policy", asked.digest[:8])
    client.ask(asked.model_copy(update={"declined": "policy tasks = []", "asked": 2000.0}))
    (record,) = client.records()
    assert (record.state, record.question.asked) == ("declined", 1000.0)
    assert "declined policy tasks = []" in shown(site, capsys, "show", record.id)


def test_an_answer_is_about_a_plan_and_a_roster_about_a_run(site: Path) -> None:
    client, first = Approvals(site), question(plan())
    client.ask(first)
    client.pin(first.digest, PINNED)
    assert run(site, "approve", first.digest[:8]) == 0
    client.ask(first.model_copy(update={"asked": 2000.0}))  # after a lost connection: the same question
    assert client.records()[0].question.asked == 1000.0
    assert client.records()[0].question.pinned == PINNED
    client.ask(question(plan(), run="r-0008", asked=3000.0))
    (record,) = client.records()
    assert (record.state, record.question.run, record.question.pinned) == ("approved", "r-0008", None)


def test_names_must_be_long_enough_known_and_single(site: Path) -> None:
    client = Approvals(site)
    client.ask(question(plan()))
    with pytest.raises(BadConfiguration, match="too short: name a plan by 8 digits"):
        client.find("abc")
    with pytest.raises(NotFound, match="no plan"):
        client.find("0" * 8)


def test_damaged_files_are_named(site: Path) -> None:
    client, asked = Approvals(site), question(plan())
    client.ask(asked)
    file = site / FOLDER / f"{asked.digest}.json"
    file.write_text(asked.model_copy(update={"plan": "{}"}).model_dump_json())
    with pytest.raises(BadConfiguration, match="is of another plan"):
        client.records()
    file.write_text("{")
    with pytest.raises(BadConfiguration, match="cannot be read"):
        client.records()


def test_a_coordinator_cannot_fill_the_disk_with_questions(site: Path) -> None:
    client = Approvals(site)
    kept = question(plan(0), asked=0.0)
    client.ask(kept)
    client.say(client.find(kept.digest), Answer(said="approved", wall=1.0))
    for seed in range(1, MOST + 4):
        client.ask(question(plan(seed), asked=float(seed)))
    found = client.records()
    assert len(found) == MOST + 1
    assert found[-1].question.digest == kept.digest
    assert found[0].question.asked == MOST + 3


def test_options_stand_behind_the_command(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "--dir", str(site.parent), "plans"]) == 2
    assert "--dir must stand behind the command: unisono client plans --dir" in capsys.readouterr().err
    assert main(["client", "plans", "--dir", str(site.parent / "nowhere")]) == 3
    assert "has not joined" in capsys.readouterr().err
