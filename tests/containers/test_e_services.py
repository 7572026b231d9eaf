"""docs/DEPLOYING.md without a container engine: the units, and how a coordinator is installed."""

import re
import shutil
from pathlib import Path
from time import monotonic

import pytest
from building import BASE, KEPT
from cluster import TIMES, Cluster
from document import blocks
from engine import ROOT, command

pytestmark = pytest.mark.containers

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PROGRAM = "/opt/unisono/bin/unisono"
NO_INIT = ("systemctl ", "journalctl ", "cp deploy/systemd")  # a container has no systemd to ask
SCRIPT = """
set -eu
sudo() { if [ "$1" = -u ]; then runuser -u "$2" -- "${@:3}"; else "$@"; fi; }
export HOME=/tmp PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
mkdir /tmp/src && cd /src && cp -r *.toml README.md LICENSE common server client deploy /tmp/src
cd /tmp/src
"""


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here: apt-get install systemd")
    stub = tmp_path / "unisono"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    assert len(UNITS) == 2
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        assert PROGRAM in text
        copy = tmp_path / unit.name
        copy.write_text(text.replace(PROGRAM, str(stub)))
        said = command("systemd-analyze", "verify", "--man=no", copy)
        told = [line for line in said.out.splitlines() if unit.stem in line]
        assert (said.code, told) == (0, []), said.out


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_says_what_the_page_says(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    user = re.search(r"^User=(.*)$", text, re.MULTILINE)
    assert user
    assert f"Environment=UNISONO_DIR=/var/lib/{user[1]}\n" in text
    assert f"StateDirectory={user[1]}\n" in text
    assert "RestartPreventExitStatus=3 4\n" in text
    assert "CapabilityBoundingSet=\n" in text
    assert "ProtectSystem=strict\n" in text


def test_a_coordinator_as_the_page_installs_it(images: Cluster) -> None:
    """On a bare Debian with python: the page's lines, then what the unit runs, as its user in its folder."""
    if not (images.engine.offline and (KEPT / "wheels").exists()):
        pytest.skip("the bare Debian and the wheels are there only where the engine reaches no registry")
    [block] = blocks("As services of systemd")
    lines = [line for line in block.splitlines() if not any(words in line for words in NO_INIT)]
    assert len(lines) == 5, block
    unit = next(unit for unit in UNITS if "coordinator" in unit.name).read_text(encoding="utf-8")
    serve = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert serve
    its = "UNISONO_DIR=/var/lib/unisono setpriv --reuid=unisono --regid=unisono --init-groups"
    ends = (
        "cd /var/lib/unisono",
        f"{its} {serve[1]} & coordinator=$!",
        f"for _ in $(seq 60); do sleep 0.5; {its} {PROGRAM} health --local && break; done",
        "kill $coordinator; wait $coordinator && echo it ended well",
    )
    began = monotonic()
    said = images.engine(
        "run", "--rm", "--network=none", "--add-host=fl.example.org:127.0.0.1",
        f"--mount=type=bind,src={ROOT},dst=/src,readonly",
        f"--mount=type=bind,src={KEPT / 'wheels'},dst=/wheels,readonly",
        BASE, "bash", "-c", "\n".join((SCRIPT, *lines, *ends)),
    )  # fmt: skip
    TIMES["a coordinator as a service, installed"] = monotonic() - began
    assert said.code == 0, said.out[-3000:]
    assert 'federation "cardio" made in /var/lib/unisono' in said.out
    assert "the coordinator is ready" in said.out
    assert said.last == "it ended well", said.out[-1000:]
