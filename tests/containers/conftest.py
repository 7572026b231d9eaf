from collections.abc import Iterator
from time import monotonic

import pytest
from building import override, prepare
from cluster import TIMES, Cluster
from engine import ROOT, Engine, NoEngine, found


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    began = monotonic()
    try:
        engine = found()
    except NoEngine as why:
        pytest.skip(str(why))
    TIMES["an engine"] = monotonic() - began
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def images(engine: Engine) -> Cluster:
    """docker-compose.yml with its images built, and nothing brought up."""
    began = monotonic()
    prepare(engine)
    TIMES["base and wheels"] = monotonic() - began
    cluster = Cluster(engine, (ROOT / "docker-compose.yml", override(engine)))
    began = monotonic()
    cluster.must("build", seconds=1800)
    TIMES["both images"] = monotonic() - began
    return cluster


@pytest.fixture(scope="session")
def cluster(images: Cluster) -> Iterator[Cluster]:
    """The federation of docker-compose.yml: three clients, brought up once for all tests."""
    cluster = images
    try:
        began = monotonic()
        cluster.up(3)
        TIMES["compose up -d"] = monotonic() - began
        cluster.began = began
        yield cluster
    finally:
        cluster.compose("down", "--volumes", "--timeout", "5")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, seconds in TIMES.items():
        terminalreporter.write_line(f"  {what:<48} {seconds:6.1f} s")
