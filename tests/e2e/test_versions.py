"""Software of two protocol versions in one federation, either side being the older."""

from pathlib import Path

import pytest
from harness import TASKS, Federation, Process, eventually, listening, plan

pytestmark = pytest.mark.e2e
SCRIPT = Path(__file__).with_name("other_version.py")


def serve(federation: Federation, low: int, high: int) -> Process:
    process = federation.script("coordinator", SCRIPT, "serve", str(low), str(high), federation.operator)
    eventually(lambda: listening(federation.port), 20, lambda: process.text)
    return process


def client(federation: Federation, name: str, low: int, high: int) -> Process:
    task = f"arrays={TASKS}:Arrays"
    return federation.script(name, SCRIPT, "client", str(low), str(high), federation.site(name), task)


@pytest.mark.parametrize(
    ("coordinator", "clients"),
    [((1, 2), (1, 1)), ((1, 1), (1, 2))],
    ids=["older client", "older coordinator"],
)
def test_neighbouring_versions_work_together(
    federation: Federation, coordinator: tuple[int, int], clients: tuple[int, int]
) -> None:
    serve(federation, *coordinator)
    client(federation, "anna", *clients)
    federation.client("bela")
    done = federation.run(plan(count=1)).finished()
    assert done["rounds"][0]["survivors"] == ["anna", "bela"]


def test_no_common_version_is_said_with_both_ranges(federation: Federation) -> None:
    serve(federation, 2, 3)
    anna = client(federation, "anna", 1, 1)
    anna.says("no common protocol: the coordinator speaks versions 2 to 3, the client 1 to 1")
