"""Processes that are killed, leave, come late: the model is the one that a quiet run would have made."""

import signal

import pytest
from harness import Federation, eventually, plan

pytestmark = pytest.mark.e2e
BIG = 6_000_000  # values: 24 MB travel each way, so that an upload takes a moment


@pytest.fixture(scope="module")
def quiet(enrolled: Federation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The models that undisturbed runs make, by what they are for."""
    federation = enrolled.copy(tmp_path_factory.mktemp("quiet") / "all")
    try:
        federation.serve()
        federation.clients("anna", "bela")
        return {
            "big": federation.run(plan(parameters={"size": BIG})).finished()["model_sha256"],
            "slow": federation.run(plan(parameters={"seconds": 1.0})).finished()["model_sha256"],
        }
    finally:
        federation.close()


def test_a_coordinator_killed_in_the_middle_of_an_upload(
    federation: Federation, quiet: dict[str, str]
) -> None:
    coordinator = federation.serve()
    federation.clients("anna", "bela")
    run = federation.run(plan(parameters={"size": BIG}))
    run.until(lambda d: len(d["rounds"]) >= 1)
    eventually(lambda: half_sent(federation), 20, lambda: "no upload was seen under way")
    coordinator.kill()
    assert half_sent(federation), "the kill came too late to prove anything"
    federation.serve()
    done = run.finished()
    assert done["model_sha256"] == quiet["big"]
    assert [r["attempts"] for r in done["rounds"]] == [1, 1, 1], "a restart costs no attempt"


def half_sent(federation: Federation) -> bool:
    """Whether some upload of round 2 has begun and not ended."""
    return any(
        p.name.startswith("2-") and p.suffix == ".part" and p.exists() and p.stat().st_size
        for p in federation.spool()
    )


def test_a_coordinator_that_is_stopped_between_rounds(federation: Federation, quiet: dict[str, str]) -> None:
    coordinator = federation.serve()
    federation.clients("anna", "bela")
    run = federation.run(plan(parameters={"seconds": 1.0}))
    run.until(lambda d: len(d["rounds"]) >= 1)
    assert coordinator.stop() == 0, coordinator.text
    federation.serve()
    assert run.finished()["model_sha256"] == quiet["slow"]


def test_a_client_killed_while_it_trains(federation: Federation, quiet: dict[str, str]) -> None:
    federation.serve()
    anna, _ = federation.clients("anna", "bela")
    run = federation.run(plan(parameters={"seconds": 1.0}))
    federation.trains("anna", 2)
    anna.kill()
    federation.client("anna")
    done = run.finished()
    assert done["model_sha256"] == quiet["slow"]
    assert all(r["survivors"] == ["anna", "bela"] for r in done["rounds"])


def test_clients_that_start_before_the_coordinator(federation: Federation, quiet: dict[str, str]) -> None:
    anna, bela = federation.clients("anna", "bela")
    for early in (anna, bela):
        early.says("cannot reach")
    federation.serve()
    assert federation.run(plan(parameters={"seconds": 1.0})).finished()["model_sha256"] == quiet["slow"]
    assert anna.running
    assert bela.running


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_client_that_leaves_is_not_waited_for_and_may_come_back(
    federation: Federation, number: signal.Signals, code: int
) -> None:
    federation.serve()
    anna, _, _ = federation.clients("anna", "bela", "cora")
    run = federation.run(plan(count=6, size=3, parameters={"seconds": 0.5}))
    federation.trains("anna", 1)
    assert anna.stop(number) == code
    run.until(lambda d: any(r["survivors"] == ["bela", "cora"] for r in d["rounds"]), 15)
    federation.client("anna")
    done = run.finished()
    assert done["rounds"][-1]["survivors"] == ["anna", "bela", "cora"]
