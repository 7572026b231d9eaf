from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness import ONE_THREAD, Federation, found
from nursery import Nursery

BIG = 4_000_000  # values: 16 MB, an upload of 32 MB


@pytest.fixture(scope="session")
def forks() -> Iterator[Nursery]:
    """Where most processes come from: a start costs a second of imports, and these tests start hundreds."""
    made = Nursery(ONE_THREAD)
    yield made
    made.close()


@pytest.fixture(scope="session")
def enrolled(tmp_path_factory: pytest.TempPathFactory, forks: Nursery) -> Federation:
    """A federation with three members that is never run itself, only copied; made as users make one."""
    return replace(found(tmp_path_factory.mktemp("enrolled") / "all"), nursery=forks)


@pytest.fixture
def federation(enrolled: Federation, tmp_path: Path) -> Iterator[Federation]:
    copied = enrolled.copy(tmp_path / "all")
    yield copied
    copied.close()
