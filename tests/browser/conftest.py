from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from harness import free_port
from hospital import Hospital
from pages import Look, NoBrowser, chromium, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as found:
            yield found
    except NoBrowser as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    root = tmp_path_factory.mktemp("dashboard") / "all"
    root.mkdir()
    made = Hospital(root, free_port())
    made.ok("init", made.operator, "--host", "localhost", "--port", str(made.port), "--federation", "cardio")
    made.begin()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def look(browser: Browser, hospital: Hospital) -> Iterator[Look]:
    with tab(browser, hospital.address) as found:
        yield found
        assert not found.complaints, json.dumps(found.complaints, indent=1)
