from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Federation, found

BIG = 4_000_000  # values: 16 MB, an upload of 32 MB


@pytest.fixture(scope="session")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A federation with three members that is never run itself, only copied."""
    return found(tmp_path_factory.mktemp("enrolled") / "all")


@pytest.fixture
def federation(enrolled: Federation, tmp_path: Path) -> Iterator[Federation]:
    copied = enrolled.copy(tmp_path / "all")
    yield copied
    copied.close()
