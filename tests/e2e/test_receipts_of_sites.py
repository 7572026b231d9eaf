"""Receipts with real processes: what a site sent and in which models it counts, proved from its folder."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from harness import CLIENTS, Document, Federation, eventually, plan

pytestmark = pytest.mark.e2e
MASKED = {"mode": "secagg", "max_colluding": 0}
SMALL = {"size": 2_000, "seconds": 0.05}


def receipts(federation: Federation, name: str) -> list[Document]:
    out = federation.ok("client", "receipts", "--json", "--dir", federation.site(name))
    return [json.loads(line) for line in out.splitlines()]


def all_held(federation: Federation, count: int) -> None:
    """Wait until every site has a receipt for everything that it sent."""

    def held() -> bool:
        return all([r["state"] for r in receipts(federation, n)] == ["held"] * count for n in CLIENTS)

    eventually(held, 20, lambda: str({n: receipts(federation, n) for n in CLIENTS}))


def verified(federation: Federation, name: str) -> Document:
    folder = federation.site(name)
    found: Document = json.loads(federation.ok("client", "receipts", "verify", "--json", "--dir", folder))
    return found


@pytest.fixture(params=["secagg", "sealed"])
def done(request: pytest.FixtureRequest, federation: Federation) -> tuple[Federation, Document]:
    protection = MASKED if request.param == "secagg" else {"mode": "sealed"}
    federation.serve()
    federation.clients(*CLIENTS)
    run = federation.run(plan(2, 3, protection=protection, parameters=SMALL)).finished()
    all_held(federation, 3)  # two rounds and the closing evaluation
    return federation, run


def test_every_site_can_prove_in_which_models_it_counts(done: tuple[Federation, Document]) -> None:
    federation, run = done
    statements = []
    for name in CLIENTS:
        found = receipts(federation, name)
        models = [r["receipt"]["published"]["model"] for r in found]
        assert models == [r["model_sha256"] for r in run["rounds"]] + [run["model_sha256"]]
        assert [r["receipt"]["published"]["what"] for r in found] == ["train", "train", "evaluate"]
        assert {r["receipt"]["published"]["count"] for r in found} == {3}
        assert {r["receipt"]["counted"]["client"] for r in found} == {name}
        statements.append([r["receipt"]["published"] for r in found])
        checked = verified(federation, name)
        assert (checked["held"], checked["wrong"]) == (3, [])
    assert statements[0] == statements[1] == statements[2], "all sites are told the same"


def test_a_receipt_anchors_the_coordinators_log(done: tuple[Federation, Document]) -> None:
    """Lines cut off the coordinator's log are missed by any site that holds a later receipt."""
    federation, _ = done
    head = receipts(federation, CLIENTS[0])[-1]["receipt"]["published"]["audit"]
    said = federation.ok("audit", "verify", "--head", head, "--dir", federation.operator / "coordinator")
    assert f"noted  {head} is line" in said
    federation.end()
    with closing(sqlite3.connect(federation.operator / "coordinator" / "state.db")) as db, db:
        db.execute("DELETE FROM audit WHERE seq > (SELECT seq FROM audit WHERE hash = ?) - 1", (head,))
    assert federation.cli("audit", "verify", "--dir", federation.operator / "coordinator").code == 0
    cut = federation.cli("audit", "verify", "--head", head, "--dir", federation.operator / "coordinator")
    assert cut.code == 1
    assert "the end was cut off" in cut.err


def test_what_was_changed_in_the_folder_afterwards_is_named(done: tuple[Federation, Document]) -> None:
    federation, _ = done
    federation.end()
    database = federation.site(CLIENTS[0]) / "client" / "state.db"
    forged = "json_replace(receipt, '$.published.model', printf('%064d', 0))"
    alter(database, f"UPDATE receipts SET receipt = {forged} WHERE round = 2")  # noqa: S608
    wrong = federation.cli("client", "receipts", "verify", "--dir", federation.site(CLIENTS[0]))
    assert wrong.code == 1
    assert "the receipt for round 2 of r-0001 does not hold" in wrong.err
    assert 'the signature under the statement "receipt" does not match' in wrong.err
    alter(database, "UPDATE audit SET detail = '{}' WHERE kind = 'accepted'")
    gone = federation.cli("client", "receipts", "verify", "--dir", federation.site(CLIENTS[0]))
    assert gone.code == 1
    assert "(accepted) was changed" in gone.err


def test_kills_lose_no_receipt(federation: Federation) -> None:
    coordinator, processes = federation.serve(), dict(zip(CLIENTS, federation.clients(*CLIENTS), strict=True))
    run = federation.run(plan(4, 3, protection=MASKED, parameters=SMALL))
    run.until(lambda d: d["state"] == "running")
    for name, pause in zip((*CLIENTS, CLIENTS[0]), (0.3, 0.5, 0.2, 0.6), strict=True):
        time.sleep(pause)
        processes[name].kill()
        coordinator.kill()
        processes[name] = federation.client(name)
        coordinator = federation.serve()
    run.finished(120)
    eventually(lambda: proved(federation) == [5, 5, 5], 30, lambda: str(proved(federation)))
    for name in CLIENTS:
        assert verified(federation, name)["wrong"] == []


def proved(federation: Federation) -> list[int]:
    """Return of how many rounds each site holds a receipt."""
    return [sum(r["state"] == "held" for r in receipts(federation, name)) for name in CLIENTS]


def alter(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute(statement)
