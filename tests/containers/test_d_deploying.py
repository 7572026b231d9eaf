"""docs/DEPLOYING.md, word for word: separate machines, backup, upgrade, certificates.  In this order.

A machine elsewhere is a container of another network, which reaches the coordinator by the address at which
this machine publishes its port, under the name that the page uses.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest
from building import options
from cluster import ENDED, TIMES, Cluster, Document, eventually
from document import blocks, replaced, shell
from engine import FAKETIME, ROOT, Said

pytestmark = pytest.mark.containers

COORDINATOR, CLIENT, TASK = "unisono-coordinator:0.1.0", "unisono-client:0.1.0", "hospital/breast-cancer:1"
NETWORK, DESK = "elsewhere", "unisono-desk"  # where the operator types
SITES = ("hospital-1", "hospital-2", "hospital-3")
FAKE_TIME = "-e LD_PRELOAD=/faketime.so -e FAKETIME_DONT_FAKE_MONOTONIC=1 -e FAKETIME=+25d"
FAKE_LIBRARY = f"--mount type=bind,src={FAKETIME},dst=/faketime.so,readonly" if FAKETIME.exists() else ""
FAKE = f"{FAKE_LIBRARY} {FAKE_TIME}"


@dataclass(slots=True)
class Reader:
    """Somebody who does what the page says."""

    cluster: Cluster
    folder: Path
    gateway: str
    substitutions: dict[str, str] = field(default_factory=dict)
    later: str = ""  # another time for the operator's commands

    def does(self, block: str, more: Mapping[str, str] | None = None) -> Said:
        """Run a block; it must succeed."""
        here = {old: new for old, new in self.substitutions.items() if old in block}
        said = shell(
            self.cluster.engine,
            replaced(block, {**here, **(more or {})}),
            self.folder,
            functions=self.tools(),
        )
        assert said.code == 0, f"{block}\n{said.code}: {said.out[-3000:]}"
        return said

    def tools(self) -> str:
        """Return what a reader has and this machine lacks: `unisono` (of the image), a stand-in for age."""
        return (
            f'unisono() {{ docker exec {self.later} -w /w {DESK} unisono "$@"; }}\n'
            "age() { cat ${4:-}; }"  # -r RECIPIENT, or -d -i KEY FILE
        )

    def elsewhere(self) -> str:
        return f"--network {NETWORK} --add-host fl.example.org:{self.gateway}"

    def asked(self, *words: str) -> Document:
        """Return what a command of the operator's says as JSON."""
        said = self.does(f"unisono {' '.join(words)} --dir admin --json")
        found: Document = json.loads(said.last)
        return found

    def clients(self, state: str = "online") -> dict[str, Document]:
        return {c["name"]: c for c in self.asked("clients")["clients"] if c["state"] == state}

    def all_online(self) -> None:
        eventually(lambda: len(self.clients()) == len(SITES), 120, lambda: str(self.clients("offline")), 1.0)

    def run(self, rounds: int) -> str:
        text = (ROOT / "examples" / "breast_cancer" / "plan.toml").read_text()
        (self.folder / "plan.toml").write_text(replaced(text, {"count = 10": f"count = {rounds}"}))
        return str(self.asked("run", "start", "plan.toml")["id"])

    def published(self, run: str) -> int:
        return len(self.asked("run", "show", run)["rounds"])

    def finished(self, run: str) -> Document:
        eventually(lambda: self.asked("run", "show", run)["state"] in ENDED, 180, pause=1.0)
        shown = self.asked("run", "show", run)
        assert shown["state"] == "finished", shown["reason"]
        return shown


@pytest.fixture(scope="module")
def reader(images: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    engine = images.engine
    if not engine.offline or os.geteuid() != 0:
        pytest.skip(
            "the page's names (volume unisono-coordinator, container unisono) could be somebody's here"
        )
    began = monotonic()
    folder = tmp_path_factory.mktemp("deploying")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)
    os.chown(folder, 10001, 10001)  # the reader is the image's user, who is nobody else on this machine
    engine.must("network", "create", NETWORK)
    gateway = engine.must("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", NETWORK).strip()
    page = {
        "-p 8443:8443": f"-p {gateway}:8443:8443",
        "-d --name unisono ": "-d --health-interval 1s --name unisono ",
        "/etc/unisono": f"{folder}/etc",
        "/srv/registry": f"{folder}",
    }
    try:
        yield Reader(images, folder, gateway, page)
    finally:
        TIMES["docs/DEPLOYING.md, all of it"] = monotonic() - began
        engine("rm", "-f", "unisono", DESK, *(f"unisono-site-{n}" for n, _ in enumerate(SITES)))
        engine(
            "volume",
            "rm",
            "unisono-coordinator",
            "unisono-operator",
            *(f"unisono-site-{n}" for n, _ in enumerate(SITES)),
        )
        engine("network", "rm", NETWORK)


def test_images(reader: Reader) -> None:
    given = shlex.join(options(reader.cluster.engine))
    [block] = blocks("Images")
    reader.does(
        block,
        {"docker build": f"cd {ROOT} && docker build -q {given}", "TORCH_INDEX=URL": "TORCH_INDEX=/wheels"},
    )
    for image in (COORDINATOR, CLIENT):
        reader.cluster.engine.must("image", "inspect", image)


def test_a_users_own_task_is_from_the_client_image_and_a_file(reader: Reader) -> None:
    """With the task of the README; what it imports is in the example's image, for want of a package index."""
    [dockerfile], [block] = blocks("Your own task", "dockerfile"), blocks("Your own task")
    (reader.folder / "Dockerfile").write_text(
        replaced(dockerfile, {f"FROM {CLIENT}": "FROM unisono-example:local"})
    )
    (reader.folder / "requirements.txt").write_text("")
    (reader.folder / "task.py").write_bytes((ROOT / "examples" / "breast_cancer" / "task.py").read_bytes())
    (reader.folder / ".dockerignore").write_text("*\n!task.py\n!requirements.txt\n")
    assert "is ready" in reader.does(block).out


def test_a_coordinator(reader: Reader) -> None:
    reader.does(blocks("On separate machines")[0])
    reader.cluster.turns("unisono", "healthy")
    desk = (
        f"{reader.elsewhere()} {FAKE_LIBRARY} -v {reader.folder}:/w --entrypoint sleep {COORDINATOR} infinity"
    )
    reader.cluster.engine.must("run", "-d", "--name", DESK, *desk.split())


def test_an_operator_with_tokens(reader: Reader) -> None:
    block = blocks("On separate machines")[1]
    reader.does(block)
    for name in SITES[1:]:
        reader.does(block.splitlines()[-1], {SITES[0]: name})
    assert oct((reader.folder / "hospital-1.token").stat().st_mode)[-3:] == "600"
    assert (
        reader.cluster.engine("volume", "inspect", "unisono-operator").code != 0
    )  # its keys lie nowhere else


def test_sites_elsewhere_train_together(reader: Reader) -> None:
    block = blocks("On separate machines")[2]
    for number, name in enumerate(SITES):
        mine = {
            "unisono-site ": f"unisono-site-{number} {reader.elsewhere()} --health-interval 2s ",
            "unisono-site:": f"unisono-site-{number}:",
            "hospital-1.token": f"{name}.token",
            "join.token": f"{name}.join",
        }
        reader.does(block, mine)
    reader.all_online()
    assert set(reader.clients()) == set(SITES)
    run = reader.run(3)
    assert [len(r["survivors"]) for r in reader.finished(run)["rounds"]] == [3] * 3
    reader.does("unisono model pull --dir admin -o model.safetensors")
    reader.cluster.turns("unisono-site-0", "healthy")


def test_a_restored_backup_is_the_same_federation(reader: Reader) -> None:
    before = reader.asked("run", "list")["runs"]
    backup, restore = blocks("Backup and restore")
    reader.does(backup)
    assert (reader.folder / "coordinator.tar.age").stat().st_size > 10_000
    reader.does("docker rm -f unisono && docker volume rm unisono-coordinator")  # the machine is lost
    reader.does(restore)
    reader.does(_started(blocks("On separate machines")[0]))
    reader.cluster.turns("unisono", "healthy")
    assert reader.asked("run", "list")["runs"] == before
    reader.all_online()  # nobody had to do anything at the sites


def _started(block: str) -> str:
    """Return the command that starts the coordinator: the last of its block."""
    return block[block.index("docker run -d") :]


def test_an_upgrade_in_the_middle_of_a_run(reader: Reader) -> None:
    engine = reader.cluster.engine
    (reader.folder / "Dockerfile").write_text(f"FROM {COORDINATOR}\nLABEL upgrade=1\n")
    engine.must("build", "-q", "-t", "unisono-coordinator:new", reader.folder)
    run = reader.run(2000)
    eventually(lambda: reader.published(run) >= 2, 120)
    [block] = blocks("Upgrade")
    reader.does(block, {"unisono-coordinator:NEW": "unisono-coordinator:new"})
    reader.cluster.turns("unisono", "healthy")
    before = reader.published(run)
    assert before >= 2
    eventually(lambda: reader.published(run) >= before + 2, 120)
    reader.does(f"unisono run stop {run} --dir admin")


def test_certificates_renew_themselves(reader: Reader) -> None:
    """25 days later: a client's has lived for two thirds, and the one that it gets is from then."""
    if not FAKETIME.exists():
        pytest.skip("no libfaketime, which gives a container another time")
    old = reader.clients()["hospital-1"]
    block, site = blocks("On separate machines")[0], blocks("On separate machines")[2]
    reader.does("docker rm -f unisono unisono-site-0")
    reader.does(_started(block), {"docker run -d": f"docker run -d {FAKE}"})
    reader.cluster.turns("unisono", "healthy")
    mine = {
        "unisono-site ": f"unisono-site-0 {reader.elsewhere()} {FAKE} ",
        "unisono-site:": "unisono-site-0:",
        "join.token": "hospital-1.join",
    }
    reader.does(site[site.index("docker run") :], mine)
    key = "not_after"

    reader.later = FAKE_TIME

    def renewed() -> bool:
        found = {c["name"]: c for c in reader.asked("clients")["clients"]}["hospital-1"]
        return bool(found[key] > old[key])

    eventually(renewed, 120, lambda: reader.cluster.logs("unisono-site-0")[-2000:], 1.0)


def test_an_operator_who_lost_their_folder(reader: Reader) -> None:
    reader.does("rm -r admin")
    reader.later = ""
    reader.does("docker rm -f unisono")
    reader.does(_started(blocks("On separate machines")[0]))
    reader.cluster.turns("unisono", "healthy")
    [block] = blocks("Certificates")
    assert "a new operator's certificate" in reader.does(block).out
    reader.cluster.turns("unisono", "healthy")
    reader.does(blocks("On separate machines")[1], {"hospital-1": "hospital-4"})
    assert {c["name"] for c in reader.asked("clients")["clients"]} == set(SITES)
