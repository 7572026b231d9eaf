"""What is refused, and in which words: at the start of processes, of runs, and in the middle of training."""

import re

import pytest
from harness import CLIENTS, Document, Federation, plan
from tasks import WORDS

pytestmark = pytest.mark.e2e


def test_a_second_coordinator_on_the_same_folder(federation: Federation) -> None:
    first = federation.serve()
    second = federation.cli("serve", "--dir", federation.operator, "--port", "0")
    assert second.code == 3, second.err
    assert "coordinator" in second.err
    assert str(federation.operator) in second.err
    assert first.running


def test_a_port_that_is_in_use(federation: Federation, enrolled: Federation) -> None:
    federation.serve()
    other = enrolled.copy(federation.root.parent / "other")
    taken = other.cli("serve", "--dir", other.operator, "--host", "127.0.0.1", "--port", str(federation.port))
    assert taken.code == 3, taken.err
    assert str(federation.port) in taken.err
    said = [line for line in taken.err.splitlines() if not line.startswith('{"')]  # the log is JSON
    assert len(said) <= 3, taken.err


def test_a_second_client_on_the_same_folder(federation: Federation) -> None:
    federation.serve()
    federation.client("anna").says("connected")
    second = federation.cli("client", "--dir", federation.site("anna"))
    assert second.code == 3, second.err


def test_nobody_listens(federation: Federation) -> None:
    """A client goes on trying, everything else exits 5 and says where it looked."""
    done = federation.cli("run", "list", "--dir", federation.operator)
    assert done.code == 5, done
    assert f"localhost:{federation.port}" in done.err


def test_a_plan_outside_a_site_s_policy(federation: Federation) -> None:
    federation.serve()
    federation.policy("bela", min_cohort=3)
    federation.clients("anna", "bela")
    done = federation.run(plan(cohort={"wait_seconds": 3.0})).ended()
    assert done["state"] == "failed"
    assert re.search(r"declined: bela: .*min_cohort", done["reason"]), done["reason"]


def test_nobody_offers_the_task(federation: Federation) -> None:
    federation.serve()
    federation.client("anna").says("connected")
    run = federation.run(plan(size=3, task="x-rays", cohort={"wait_seconds": 2.0}))
    waits = run.until(lambda d: d["state"] == "waiting")["status"]["sentence"]
    assert waits.startswith("waiting for 3 more clients (0/3) that offer task 'x-rays', ")
    done = run.ended()
    assert done["state"] == "failed"
    assert done["reason"].startswith("0 of 3 clients that offer task 'x-rays' joined in 2 s")
    assert run.popen.returncode == 1


def test_too_few_offer_it(federation: Federation) -> None:
    federation.serve()
    federation.client("anna").says("connected")
    run = federation.run(plan(size=3, cohort={"wait_seconds": 2.0}))
    run.until(
        lambda d: d["status"]["sentence"].startswith(
            "waiting for 2 more clients (1/3) that offer task 'arrays'"
        )
    )
    assert run.ended()["reason"].startswith("1 of 3 clients that offer task 'arrays' joined in 2 s")


def test_a_model_of_another_shape_is_declined(federation: Federation) -> None:
    federation.serve()
    for name in ("anna", "bela"):
        federation.client(name).says("connected")
    run = federation.run(plan(size=3, cohort={"wait_seconds": 10.0}))  # a busy machine starts slowly
    run.until(lambda d: "(2/3)" in d["status"]["sentence"])
    cora = federation.client("cora", "Larger")
    reason = run.ended()["reason"]
    assert "cora" in reason
    assert 'tensor "w" has shape' in reason
    assert "1001" in reason
    assert "1000" in reason
    assert cora.running, cora.text


@pytest.mark.parametrize(
    ("trouble", "code"), [("raises", "task_error"), ("nan", "not_finite"), ("killed", "killed")]
)
def test_training_that_fails_costs_one_client_and_tells_nothing(
    federation: Federation, trouble: str, code: str
) -> None:
    federation.serve()
    federation.clients(*CLIENTS)
    wanted = {"trouble": trouble, "who": "bela", "when": 2}
    run = federation.run(plan(size=3, parameters=wanted))
    done = run.finished()
    assert [r["survivors"] for r in done["rounds"]][1] == ["anna", "cora"]
    assert done["rounds"][2]["survivors"] == ["anna", "bela", "cora"], "it may try again in the next round"
    failed = [event for event in run.events if event["event"] == "task_failed"]
    assert [(event["client"], event["code"], event["round"]) for event in failed] == [("bela", code, 2)]
    assert_nothing_leaked(federation, run.documents)


def test_training_that_hangs_is_not_waited_for(federation: Federation) -> None:
    federation.serve()
    federation.clients(*CLIENTS)
    wanted = {"trouble": "hangs", "who": "bela", "when": 2}
    done = federation.run(plan(size=3, count=2, parameters=wanted, rounds={"idle_seconds": 3.0})).finished()
    assert done["rounds"][1]["survivors"] == ["anna", "cora"]


def test_too_many_failures_fail_the_run_with_their_reason(federation: Federation) -> None:
    federation.serve()
    federation.clients("anna", "bela")
    wanted = {"trouble": "raises", "who": "bela", "when": 1}
    run = federation.run(plan(cohort={"min_survivors": 2}, rounds={"attempts": 2}, parameters=wanted))
    done = run.ended()
    assert done["state"] == "failed"
    assert "2 attempts" in done["reason"]
    assert "bela" in done["reason"]
    assert_nothing_leaked(federation, run.documents)


def assert_nothing_leaked(federation: Federation, documents: list[Document]) -> None:
    """What the user's code said is in the site's own log, and nowhere at the coordinator."""
    assert WORDS not in str(documents)
    assert WORDS.encode() not in b"".join(
        file.read_bytes() for file in (federation.operator / "coordinator").rglob("*") if file.is_file()
    )
    assert WORDS not in federation.processes[0].text
