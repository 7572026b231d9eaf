"""What crash tests share: the shim, a federation that is only copied, what undisturbed runs come to."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from crash_world import SEEDS, Quiet, build_shim, opened, plan_bytes, story
from harness import Federation, found
from nursery import Nursery


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def nursery(shim: Path) -> Iterator[Nursery]:
    found_nursery = Nursery(
        {
            "LD_PRELOAD": str(shim),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "UNISONO_RECONNECT_SECONDS": "0.05",
            "UNISONO_OPS_PORT": "-1",
            "no_grpc_proxy": "localhost",
            "UNISONO_LOG_FORMAT": "json",
        }
    )
    yield found_nursery
    found_nursery.close()


@pytest.fixture(scope="session")
def enrolled_once(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Three members, nothing running."""
    return found(tmp_path_factory.mktemp("crash") / "all")


@pytest.fixture(scope="session")
def quiet(nursery: Nursery, enrolled_once: Federation) -> Quiet:
    @cache
    def models(protection: str) -> list[str]:
        with opened(nursery, enrolled_once) as world:
            ended = [story(world, "anna", plan_bytes(protection, seed), None) for seed in range(SEEDS)]
            world.stop()
        assert all(one.document["state"] == "finished" and not one.died for one in ended)
        assert len({one.model for one in ended}) == SEEDS
        return [one.model for one in ended]

    return models
