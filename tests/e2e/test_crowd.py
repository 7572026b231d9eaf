"""A crowd that connects at once costs nobody his round: the benchmark's small form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crowd.py"


def test_a_crowd_gets_in_while_a_round_goes_on(tmp_path: Path) -> None:
    """Times are the benchmark's matter; here it is that everybody gets in and memory stays small."""
    words = [
        "--crowd",
        "60",
        "--mb",
        "1",
        "--clients",
        "3",
        "--rounds",
        "3",
        "--json",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["tally"]["inside"], found["tally"]["refused"]) == (60, 0)
    assert found["crowded"]["peak_rss_mb"] < 400
