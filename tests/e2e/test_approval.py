"""`approve = "ask"`: a run waits until somebody at the site has looked at its plan, and says for whom."""

import json
import time

import pytest
from harness import CLIENTS, Document, Federation, Watch, plan

pytestmark = pytest.mark.e2e
SECAGG = plan(count=1, size=3, protection={"mode": "secagg"})


def asked(federation: Federation, name: str) -> Document:
    """Return the one plan that a site was asked about."""
    found = json.loads(federation.ok("client", "plans", "--json", "--dir", federation.site(name)))
    (one,) = found["plans"]
    document: Document = one
    return document


def waits_for(watch: Watch, name: str) -> Document:
    words = f"an answer from {name} (somebody there has to look at the plan)"
    return watch.until(lambda d: words in d["status"]["sentence"])


def say(federation: Federation, name: str, verb: str, *more: str) -> str:
    return federation.ok(
        "client", "plans", verb, asked(federation, name)["id"], *more, "--dir", federation.site(name)
    )


def test_a_run_waits_until_somebody_has_approved_its_plan(federation: Federation) -> None:
    federation.serve()
    federation.policy("bela", approve="ask")
    federation.clients(*CLIENTS)
    watch = federation.run(SECAGG)
    document = waits_for(watch, "bela")
    rows = {row["name"]: row["state"] for row in document["status"]["clients"]}
    assert rows["bela"] == "looking"
    question = asked(federation, "bela")
    assert (question["state"], question["run"]) == ("waiting", document["id"])
    assert question["plan_sha256"] == document["plan_sha256"]
    words = " ".join(say(federation, "bela", "show").split())
    assert "the coordinator reads sums over several sites only" in words
    assert document["plan_sha256"][:4] in words
    began = time.monotonic()
    say(federation, "bela", "approve")
    watch.until(lambda d: d["status"]["stage"] != "waiting")
    assert time.monotonic() - began < 10, "noticed within about a second, on a busy machine too"
    watch.finished()
    told = {name: asked(federation, name) for name in CLIENTS}
    assert {one["state"] for one in told.values()} == {"approved", "within policy"}
    (roster,) = {one["roster_sha256"] for one in told.values()}
    assert not any(one["compared"] for one in told.values())
    say(federation, "bela", "approve", "--roster", roster)
    assert asked(federation, "bela")["compared"]


def test_the_operator_reads_why_a_site_rejects_a_plan(federation: Federation) -> None:
    federation.serve()
    federation.policy("bela", approve="ask")
    _, bela, _ = federation.clients(*CLIENTS)
    watch = federation.run(plan(count=1, size=3, cohort={"wait_seconds": 1.0}))
    waits_for(watch, "bela")
    time.sleep(2.0)  # longer than the run waits for processes
    assert watch.popen.poll() is None
    assert bela.text.count("event=plan_waits") == 1, "said once, however often it asks"
    say(federation, "bela", "reject", "--reason", "not before the vote of the board")
    ended = watch.ended()
    assert ended["state"] == "failed"
    assert (
        "bela: somebody at this site rejected the plan: not before the vote of the board" in ended["reason"]
    )


def test_an_answer_may_be_given_while_no_client_runs(federation: Federation) -> None:
    federation.serve()
    federation.policy("bela", approve="ask")
    anna, bela = federation.clients("anna", "bela")
    watch = federation.run(plan(count=1, size=2))
    waits_for(watch, "bela")
    bela.kill()
    say(federation, "bela", "approve")
    federation.client("bela")
    watch.finished()
    assert anna.running
    again = federation.run(plan(count=1, size=2))
    again.finished()  # an approval is for the plan: the next run of it asks nobody


def test_a_rejection_takes_a_site_out_of_a_run_that_goes_on(federation: Federation) -> None:
    federation.serve()
    federation.clients(*CLIENTS)
    watch = federation.run(plan(count=500, size=3, parameters={"seconds": 0.1}))
    watch.until(lambda d: len(d["rounds"]) >= 1)
    say(federation, "bela", "reject", "--reason", "an objection came in")
    watch.until(lambda d: any(one["survivors"] == ["anna", "cora"] for one in d["rounds"]))
