"""`unisono demo` as a newcomer runs it: real processes, real training, nothing prepared."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import eventually
from safetensors.torch import load_file

pytestmark = pytest.mark.e2e
DEMO = (sys.executable, "-m", "unisono.cli", "demo")
KEYS = {"id", "state", "reason", "plan_sha256", "protection", "rounds", "privacy", "model_sha256"}
ROUND_KEYS = {
    "round", "attempts", "cohort", "survivors", "seconds", "metrics", "bytes_in", "bytes_out", "model_sha256",
}  # fmt: skip


def demo(folder: Path, *more: str) -> str:
    words = (*DEMO, *more)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "quiet when all is well"
    return done.stdout


def test_a_newcomer_s_demo(tmp_path: Path) -> None:
    """The contract of `--json`, the accuracy, the file; and again in lines: the same seed, the same model."""
    began = time.monotonic()
    found = json.loads(demo(tmp_path, "--json"))
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # so many share each core
    assert time.monotonic() - began < 60 * busy
    assert found.keys() >= KEYS | {"final", "alone", "pooled", "model"}
    assert all(one.keys() >= ROUND_KEYS for one in found["rounds"])
    assert (found["state"], found["protection"], len(found["rounds"])) == ("finished", "secagg", 10)
    assert found["final"]["accuracy"] >= 0.95
    assert found["final"]["accuracy"] > sum(found["alone"]) / 3
    assert len(found["alone"]) == 3
    assert {"0.weight": (10, 30), "2.weight": (1, 10)}.items() <= {
        name: tuple(tensor.shape) for name, tensor in load_file(found["model"]).items()
    }.items()  # fmt: skip
    again = demo(tmp_path)  # the folder of the first is replaced
    assert found["model_sha256"][:12] in again
    assert_lines(again, found["final"]["accuracy"], found["alone"], found["pooled"])
    predicted = subprocess.run(  # noqa: S603
        [*DEMO[:-1], *next(line for line in again.splitlines() if "unisono predict" in line).split()[2:]],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    assert (tmp_path / "predictions.csv").read_text().startswith("row,prediction")


def assert_lines(said: str, final: float, alone: list[float], pooled: float) -> None:
    rounds = [line for line in said.splitlines() if line.strip()[:2].strip().isdigit()]
    assert len(rounds) == 10
    assert all(line.count("kB") + line.count(" B") == 2 for line in rounds), said
    for words in ("3 clients joined with one-time tokens, mutual TLS", "152, 152, 151 rows to train"):
        assert words in said
    assert f"each hospital alone     {'  '.join(f'{a:.3f}' for a in alone)}" in said
    assert f"together, data stayed   {final:.3f}" in said
    assert f"pooled (not allowed)    {pooled:.3f}" in said


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(  # noqa: S603
        (*DEMO, "--rounds", "1000"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = tmp_path / "unisono-demo" / "logs" / "hospital-1.log"
        eventually(first.exists, 60, lambda: "no client was started")
        mine = processes_of(tmp_path)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert mine, "there was something to end"
    eventually(lambda: not processes_of(tmp_path), 5, lambda: str(processes_of(tmp_path)))


def test_a_demo_whose_coordinator_dies_says_so(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: S603
        (*DEMO, "--rounds", "1000"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = tmp_path / "unisono-demo" / "logs" / "hospital-1.log"
        eventually(first.exists, 60, lambda: "no client was started")
        for pid in processes_of(tmp_path, "serve"):
            os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the demo failed: coordinator was killed by signal 9" in said
    assert not processes_of(tmp_path)


def processes_of(folder: Path, *words: str) -> list[int]:
    """Return the processes whose command line names a file under `folder`, and `words`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(part.startswith(str(folder)) for part in line) and set(words) <= set(line):
            found.append(int(file.parent.name))
    return found
