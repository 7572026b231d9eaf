"""Secure aggregation with real processes: killed, lost, back again; the model is the same."""

import json
import time
from collections.abc import Callable

import pytest
from harness import CLIENTS, Document, Federation, eventually, plan

pytestmark = pytest.mark.e2e
MASKED = {"mode": "secagg", "max_colluding": 0}


def masked(count: int = 3, size: int = 3, seconds: float = 0.2, idle: float = 10.0) -> str:
    rounds = {"idle_seconds": idle}
    return plan(
        count,
        size,
        protection=MASKED,
        parameters={"size": 50_000, "seconds": seconds},
        rounds=rounds,
    )


@pytest.fixture(scope="module")
def quiet(enrolled: Federation, tmp_path_factory: pytest.TempPathFactory) -> Document:
    """What an undisturbed run makes."""
    federation = enrolled.copy(tmp_path_factory.mktemp("quiet") / "all")
    try:
        federation.serve()
        federation.clients(*CLIENTS)
        return federation.run(masked()).finished()
    finally:
        federation.close()


def test_a_run_tells_how_many_survived_and_nothing_about_one(quiet: Document) -> None:
    assert quiet["protection"] == "secagg"
    assert [len(r["survivors"]) for r in quiet["rounds"]] == [3, 3, 3]
    text = json.dumps(quiet)
    for word in ("examples", "gradient", "training_seconds"):
        assert word not in text


def test_a_coordinator_killed_again_and_again_makes_the_same_model(
    federation: Federation, quiet: Document
) -> None:
    coordinator = federation.serve()
    federation.clients(*CLIENTS)
    run = federation.run(masked())
    run.until(lambda d: d["state"] == "running")
    for pause in (0.1, 0.15, 0.3, 0.05, 0.2):
        time.sleep(pause)  # whatever it is doing
        coordinator.kill()
        coordinator = federation.serve()
    done = run.finished()
    assert done["model_sha256"] == quiet["model_sha256"]
    assert [r["attempts"] for r in done["rounds"]] == [1, 1, 1], "a restart costs no attempt"


def test_a_client_killed_goes_on_in_the_same_round_with_the_same_bytes(
    federation: Federation, quiet: Document
) -> None:
    federation.serve()
    anna, *_ = federation.clients(*CLIENTS)
    run = federation.run(masked())
    federation.trains("anna", 1)
    anna.kill()
    anna = federation.client("anna")
    spooled(federation, lambda name: name.startswith("2-") and "-anna-" in name)
    anna.kill()  # its masked update is there, its signature perhaps not
    federation.client("anna")
    done = run.finished()
    assert done["model_sha256"] == quiet["model_sha256"]
    assert [r["attempts"] for r in done["rounds"]] == [1, 1, 1]


def test_who_is_lost_for_good_is_left_out_and_the_sum_of_the_others_is_published(
    federation: Federation,
) -> None:
    federation.serve()
    joined = federation.join("dora", federation.token("dora"))
    assert joined.code == 0, joined.err
    *_, dora = [*federation.clients(*CLIENTS), federation.client("dora")]
    run = federation.run(masked(size=4, seconds=1.0, idle=3.0))
    run.until(lambda d: len(d["rounds"]) >= 1)
    federation.trains("dora", 2)
    dora.kill()
    done = run.finished()
    first, second, third = done["rounds"]
    assert len(first["survivors"]) == 4
    assert second["survivors"] == third["survivors"] == ["anna", "bela", "cora"]
    assert second["attempts"] == 1, "a lost client costs the others nothing"


def test_two_are_too_few_and_the_plan_says_why(federation: Federation) -> None:
    federation.serve()
    file = federation.root / "two.toml"
    file.write_text(masked(size=2))
    done = federation.cli("run", "start", file, "--dir", federation.operator)
    assert done.code == 3
    assert "the other's update" in done.err


def spooled(federation: Federation, wanted: Callable[[str], bool]) -> None:
    eventually(
        lambda: any(wanted(path.name) for path in federation.spool()), 30, lambda: "no upload was seen"
    )
