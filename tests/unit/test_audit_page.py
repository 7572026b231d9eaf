"""The `audit` document: the coordinator's log in pages, newest line first, under one head."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from unisono import plan as plans
from unisono.plan import Plan
from unisono.server.rounds import begin
from unisono.server.runtime.views import MOST_LINES, audit_page
from unisono.server.store import Store, open_store

PLAN = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    for number in range(7):
        opened.add_token(f"{number:02x}", f"site-{number}", 1, 2000.0, "operator", 1000.0 + number)
    yield opened
    opened.close()


def test_the_head_is_that_of_the_chain(store: Store) -> None:
    count, head = store.verify_audit()
    assert (audit_page(store)["count"], audit_page(store)["head"]) == (count, head)
    assert count == 7


def test_pages_hold_every_line_once_newest_first(store: Store) -> None:
    numbers, before = [], 0
    while lines := audit_page(store, before, 3)["lines"]:
        numbers += [line["seq"] for line in lines]
        before = lines[-1]["seq"]
        if before == 1:
            break
    assert numbers == [7, 6, 5, 4, 3, 2, 1]


def test_a_line_says_what_when_and_whom(store: Store) -> None:
    line = audit_page(store, limit=1)["lines"][0]
    assert (line["wall"], line["what"], line["run"], line["client"]) == (
        1006.0,
        "token_created",
        "",
        "site-6",
    )
    assert line["detail"] == {"by": "operator", "not_after": 2000.0, "serial": "06", "uses": 1}


@pytest.mark.parametrize(("before", "limit"), [(-5, 0), (0, -1), (8, 10**9)])
def test_odd_bounds_are_put_right(store: Store, before: int, limit: int) -> None:
    assert 1 <= len(audit_page(store, before, limit)["lines"]) <= MOST_LINES


def test_before_the_first_line_there_is_nothing(store: Store) -> None:
    assert audit_page(store, 1)["lines"] == []


def test_a_page_has_at_most_a_mebibyte(tmp_path: Path) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    store = open_store(folder)
    plan = plans.canonical(PLAN)
    store.create(plan, plans.digest(PLAN), begin(PLAN, 0.0), 0.0, 1000.0, "x" * 600_000)
    store.create(plan, plans.digest(PLAN), begin(PLAN, 0.0), 0.0, 1000.0, "y" * 600_000)
    assert len(audit_page(store)["lines"]) == 1  # the newest is shown, however long
    store.close()
