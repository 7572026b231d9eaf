"""The ledger of secure aggregation: saved with its step, encrypted, in order, gone when of no more use."""

from dataclasses import replace
from pathlib import Path

import pytest

from unisono import plan as plans
from unisono.base.errors import Corrupt, Fault
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import AtRest
from unisono.plan import Plan
from unisono.server.rounds import (
    Announced,
    InRound,
    RoundPublished,
    Row,
    Run,
    RunEnded,
    begin,
)
from unisono.server.store import Change, Store, open_store

PLAN = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})
SECRET = b"a share of somebody's secret" * 4
A = ClientName("a")


def started(store: Store) -> tuple[RunId, Run]:
    step = begin(PLAN, 0.0)
    run = store.create(plans.canonical(PLAN), plans.digest(PLAN), step, 0.0, 1000.0, "admin")
    return run, replace(step.run, stage=InRound("train", 2, 1, 0.0, Announced(9.0)))


def saved(run: Run, *rows: Row, facts: tuple[RoundPublished | RunEnded, ...] = ()) -> Change:
    return Change(run, now=1.0, wall=1001.0, rows=rows, facts=facts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_rows_come_back_in_their_order_those_of_the_present_round_only(folder: Path) -> None:
    store = open_store(folder, AtRest(bytes(32)))
    run, machine = started(store)
    first = [Row(2, 1, bytes([n]) * 40) for n in range(3)]
    store.save(run, saved(machine, Row(1, 1, b"of the round before"), *first))
    store.save(run, saved(machine, Row(2, 2, SECRET)))
    store.close()
    store = open_store(folder, AtRest(bytes(32)))
    assert store.load(run).rows == (*first, Row(2, 2, SECRET))
    store.close()


def test_no_byte_of_a_row_is_on_the_disk(folder: Path) -> None:
    store = open_store(folder, AtRest(bytes(32)))
    run, machine = started(store)
    store.save(run, saved(machine, Row(2, 1, SECRET)))
    on_disk = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert len(on_disk) > len(SECRET)
    assert SECRET[:16] not in on_disk
    store.close()


def test_another_key_opens_nothing(folder: Path) -> None:
    store = open_store(folder, AtRest(bytes(32)))
    run, machine = started(store)
    store.save(run, saved(machine, Row(2, 1, SECRET)))
    store.close()
    store = open_store(folder, AtRest(b"\1" * 32))
    with pytest.raises(Corrupt):
        store.load(run)
    store.close()
    store = open_store(folder)
    with pytest.raises(Fault, match="without the key"):
        store.load(run)
    store.close()


def test_a_published_round_and_the_end_of_a_run_leave_nothing_behind(folder: Path) -> None:
    store = open_store(folder, AtRest(bytes(32)))
    run, machine = started(store)
    store.save(run, saved(machine, Row(2, 1, b"old"), Row(2, 2, b"old")))
    published = RoundPublished(2, 2, (A,), (A,), 1.0, Digest("ab" * 32))
    following = replace(machine, stage=InRound("train", 3, 1, 0.0, Announced(9.0)))
    store.save(run, saved(following, Row(3, 1, b"new"), facts=(published,)))
    assert store.load(run).rows == (Row(3, 1, b"new"),)
    store.save(run, saved(following, facts=(RunEnded("stopped", "by the operator"),)))
    assert store.load(run).rows == ()
    store.close()
