"""One suite for every implementation: another one joins by another name in `params`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unisono.crypto import AtRest, system_entropy
from unisono.server.blobs import LocalDir
from unisono.server.store import Store, open_store

Open = Callable[[], Store]


@pytest.fixture(params=["sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store; called again, closes it and opens the same state anew."""
    assert request.param == "sqlite"
    opened: list[Store] = []

    def again() -> Store:
        while opened:
            opened.pop().close()
        opened.append(open_store(tmp_path))
        return opened[0]

    yield again
    while opened:
        opened.pop().close()


@pytest.fixture
def store(reopen: Open) -> Store:
    return reopen()


@pytest.fixture(params=["local"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> LocalDir:
    assert request.param == "local"
    return LocalDir(tmp_path / "blobs", AtRest(bytes(range(32))), system_entropy)
