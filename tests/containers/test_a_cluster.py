"""`docker compose up --build --scale client=3`, then whatever happens to a federation.  In this order."""

import hashlib
import time
from datetime import datetime
from pathlib import Path

import pytest
from cluster import TIMES, Cluster, Document, eventually, plan

from unisono import tensors

pytestmark = pytest.mark.containers

LONG = 2000  # rounds of a run that something happens to; it is stopped afterwards


def test_up_trains_the_example_with_three_clients(cluster: Cluster) -> None:
    train = cluster.container("train")
    eventually(lambda: cluster.state(train)["Status"] == "exited", 180, lambda: cluster.logs(train)[-3000:])
    TIMES["compose up to the model of a 10-round run"] = time.monotonic() - cluster.began
    assert cluster.state(train)["ExitCode"] == 0, cluster.logs(train)
    [run] = cluster.asked("run", "list")["runs"]
    assert (run["id"], run["state"], run["task"]) == ("r-0001", "finished", "breast-cancer")
    shown = cluster.run("r-0001")
    assert shown["protection"] == "secagg"
    assert [len_of(r["survivors"]) for r in shown["rounds"]] == [3] * 10
    assert shown["rounds"][-1]["metrics"]["accuracy"] > 0.9
    assert {c["name"] for c in cluster.online(3)} == {"site-1", "site-2", "site-3"}


def len_of(who: object) -> int:
    return who if isinstance(who, int) else len(who) if isinstance(who, list) else -1


def test_progress_is_in_the_log(cluster: Cluster) -> None:
    log = cluster.must("logs", "train")
    for number in range(1, 11):
        assert f"round={number} " in log
    assert "round_published" in log
    assert "accuracy" in log.splitlines()[-2]


def test_the_model_is_left_in_its_volume(cluster: Cluster, tmp_path: Path) -> None:
    cluster.must("cp", "train:/models/breast-cancer.safetensors", tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == cluster.run("r-0001")["model_sha256"]
    assert sum(array.size for array in tensors.read(data).values()) == 30 * 10 + 10 + 10 + 1


def test_the_coordinator_is_ready_soon(cluster: Cluster) -> None:
    container = cluster.container("coordinator")
    lines = cluster.engine.must("logs", "--timestamps", container).splitlines()
    listens = next(line.split()[0] for line in lines if "listens on port" in line)
    began = cluster.state(container)["StartedAt"]
    seconds = (datetime.fromisoformat(listens) - datetime.fromisoformat(began)).total_seconds()
    TIMES["coordinator's container from start to ready"] = seconds
    assert seconds < 20  # the goal is 1.5 s on an idle machine; this one may be busy


def test_every_client_has_its_own_part_of_the_data(cluster: Cluster) -> None:
    assert sorted(c["number"] for c in cluster.asked("clients")["clients"]) == [1, 2, 3]
    folders = cluster.must("exec", "-T", "client", "ls", "/var/lib/unisono").split()
    assert sorted(folders) == ["site-1", "site-2", "site-3"]


def test_all_are_healthy(cluster: Cluster) -> None:
    for container in (cluster.container("coordinator"), *cluster.containers("client")):
        cluster.turns(container, "healthy")
    assert cluster.health(cluster.container("coordinator"))[1] == "the coordinator is ready"


@pytest.mark.parametrize("service", ["coordinator", "client"])
def test_the_root_is_read_only(cluster: Cluster, service: str) -> None:
    for place in ("/x", "/opt/unisono/x", "/etc/x", "/usr/bin/x"):
        said = cluster.compose("exec", "-T", service, "sh", "-c", f": >{place}")
        assert said.code != 0
        assert "Read-only file system" in said.out, said.out


@pytest.mark.parametrize("service", ["coordinator", "client"])
def test_there_are_no_capabilities_and_no_root(cluster: Cluster, service: str) -> None:
    text = cluster.must("exec", "-T", service, "cat", "/proc/1/status")
    told = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(told[kind], 16) == 0, (kind, told[kind])
    assert told["NoNewPrivs"] == "1"
    assert told["Uid"].split() == ["10001"] * 4
    assert told["Name"] == "unisono"  # process 1 is the program: no shell stands between it and SIGTERM


def test_keys_are_where_their_owners_are(cluster: Cluster) -> None:
    assert "coordinator" not in cluster.must("exec", "-T", "client", "ls", "/var/lib/unisono")
    keys = cluster.must("exec", "-T", "client", "sh", "-c", "find / -name 'ca.key' 2>/dev/null; true")
    assert keys.strip() == ""


def test_a_killed_coordinator_goes_on_with_the_run(cluster: Cluster) -> None:
    run = cluster.start(plan(LONG))
    cluster.reached(run, 3)
    cluster.must("kill", "-s", "SIGKILL", "coordinator")
    assert cluster.state(cluster.container("coordinator"))["ExitCode"] == 137
    cluster.must("start", "coordinator")
    eventually(lambda: cluster.unisono("health").code == 0, 60)
    before = cluster.published(run)
    assert before >= 3  # nothing that was published is lost
    cluster.reached(run, before + 3)
    cluster.turns(cluster.container("coordinator"), "healthy")
    cluster.stop(run)


def test_a_stopped_client_is_waited_for_by_name_and_comes_back(cluster: Cluster) -> None:
    run = cluster.start(plan(LONG))
    cluster.reached(run, 2)
    container = cluster.containers("client")[1]
    site = cluster.site_of(container)
    cluster.engine.must("stop", "--time", "60", container)
    assert cluster.state(container)["ExitCode"] == 0  # SIGTERM was heard; SIGKILL would be 137
    left = cluster.must("exec", "-T", "coordinator", "unisono", "clients")
    assert "Traceback" not in cluster.logs(container)

    def waited_for() -> bool:
        return site in str((cluster.run(run).get("status") or {}).get("sentence"))

    eventually(waited_for, 60, lambda: f"{left}\n{cluster.run(run)['status']}")
    before = cluster.published(run)
    time.sleep(2)
    assert cluster.published(run) == before  # three are the least that secagg takes
    cluster.engine.must("start", container)
    cluster.reached(run, before + 3)
    assert cluster.site_of(container) == site  # its name, though its container knows none
    shown = cluster.stop(run)
    assert len_of(shown["rounds"][-1]["survivors"]) == 3


def test_five_clients_take_part_in_the_next_run(cluster: Cluster) -> None:
    cluster.up(5)
    who = cluster.online(5)
    assert {c["name"] for c in who} == {f"site-{n}" for n in range(1, 6)}
    shown = cluster.finished(cluster.start(plan(5)))
    assert [len_of(r["survivors"]) for r in shown["rounds"]] == [5] * 5
    eventually(lambda: "r-0001 is a run of this plan already" in cluster.must("logs", "train"), 90)


def test_down_and_up_keep_the_state(cluster: Cluster, tmp_path: Path) -> None:
    runs, clients = cluster.asked("run", "list")["runs"], named(cluster.asked("clients"))
    cluster.must("down", "--timeout", "30")
    cluster.up(5)
    cluster.online(5)
    assert cluster.asked("run", "list")["runs"] == runs
    assert named(cluster.asked("clients")) == clients
    train = cluster.container("train")
    eventually(lambda: cluster.state(train)["Status"] == "exited", 60)
    assert cluster.state(train)["ExitCode"] == 0, cluster.logs(train)
    assert "no other is started" in cluster.logs(train)
    cluster.must("cp", "train:/models/breast-cancer.safetensors", tmp_path / "model.safetensors")
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert digest == runs[0]["model_sha256"]  # the latest run's: `train` pulls what is newest


def named(document: Document) -> list[tuple[int, str]]:
    return sorted((c["number"], c["name"]) for c in document["clients"])
