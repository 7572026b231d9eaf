"""What is wrong ends with an exit code and a line that says what to do; later troubles turn the health."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import Cluster
from engine import FAKETIME, Said

pytestmark = pytest.mark.containers

COORDINATOR, EXAMPLE = "unisono-coordinator:local", "unisono-example:local"
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
USER = 10001


@dataclass(slots=True)
class Bench:
    """Single containers beside the cluster, with folders of this machine in them."""

    cluster: Cluster
    folder: Path
    network: str

    def run(self, image: str, *words: str, more: tuple[str, ...] = ()) -> Said:
        """Run one container to its end."""
        return self.cluster.engine(
            "run", "--rm", *HARDENED, f"--network={self.network}", *more, image, *words
        )

    def detached(self, image: str, *words: str, more: tuple[str, ...] = ()) -> str:
        checks = ("--health-interval=1s", "--health-start-period=1s", "--health-retries=12")
        options = (*HARDENED, f"--network={self.network}", *checks, *more)
        return self.cluster.engine.must("run", "-d", *options, image, *words).split()[-1]

    def turns(self, container: str, health: str, words: str = "") -> str:
        return self.cluster.turns(container, health, words)

    def private(self, name: str, text: str = "", mode: int = 0o600, owner: int = USER) -> Path:
        """Return a file of a container's user."""
        file = self.folder / name
        file.write_text(text)
        file.chmod(mode)
        os.chown(file, owner, owner)
        return file

    def place(self, name: str, owner: int = USER) -> Path:
        """Return a folder of a container's user."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, owner)
        return folder

    def token(self, name: str) -> Path:
        text = json.loads(self.cluster.unisono("token", "create", name, "--json").last)["token"]
        return self.private(f"{name}.token", text)


@pytest.fixture
def bench(cluster: Cluster, tmp_path: Path) -> Iterator[Bench]:
    if os.geteuid() != 0:
        pytest.skip("files of a container's user can be made by root only")
    before = set(cluster.engine.must("ps", "-aq").split())
    tmp_path.chmod(0o755)
    yield Bench(cluster, tmp_path, "unisono-test_default")
    for container in set(cluster.engine.must("ps", "-aq").split()) - before:
        cluster.engine("rm", "-f", container)


def mounted(file: Path, at: str, *, writable: bool = False) -> str:
    return f"--mount=type=bind,src={file},dst={at}{'' if writable else ',readonly'}"


def ends(said: Said, code: int, *words: str) -> None:
    """Hold the exit code, at most three lines, and what must be in them."""
    assert said.code == code, said.out
    assert len(said.out.strip().splitlines()) <= 3, said.out
    for word in words:
        assert word in said.out, said.out


# files and folders


def test_a_volume_that_is_anothers(bench: Bench) -> None:
    volume = bench.place("state", owner=0)
    said = bench.run(
        COORDINATOR,
        "init",
        "/var/lib/unisono",
        "--host=here",
        more=(mounted(volume, "/var/lib/unisono", writable=True),),
    )
    ends(said, 3, "Permission denied", f"chown -R {USER}:{USER}")


def test_a_clients_volume_that_is_anothers(bench: Bench) -> None:
    volume = bench.place("site", owner=0)
    said = bench.run(EXAMPLE, "client", more=(mounted(volume, "/var/lib/unisono", writable=True),))
    ends(said, 3, "Permission denied", f"chown -R {USER}:{USER}")


def test_a_volume_that_is_read_only(bench: Bench) -> None:
    volume = bench.place("state")
    said = bench.run(
        COORDINATOR, "init", "/var/lib/unisono", "--host=here", more=(mounted(volume, "/var/lib/unisono"),)
    )
    ends(said, 3, "Read-only file system", "volume")


@pytest.mark.parametrize(
    ("mode", "owner", "words"),
    [
        (None, USER, ("cannot read", "/run/secrets/key", "No such file")),
        (0o600, 0, ("cannot read", "/run/secrets/key", "Permission denied")),
        (0o644, USER, ("may be read by others", "chmod 600")),
    ],
    ids=["missing", "unreadable", "of a wrong mode"],
)
def test_a_secret(bench: Bench, mode: int | None, owner: int, words: tuple[str, ...]) -> None:
    state = bench.place("state")
    volume = mounted(state, "/var/lib/unisono", writable=True)
    assert bench.run(COORDINATOR, "init", "/var/lib/unisono", "--host=here", more=(volume,)).code == 0
    more: tuple[str, ...] = (volume, "--env=UNISONO_KEY_FILE=/run/secrets/key")
    if mode is not None:
        secret = bench.private("key", "k" * 32, mode, owner)
        more = (*more, mounted(secret, "/run/secrets/key"))
    ends(bench.run(COORDINATOR, "serve", more=more), 3, *words)


def test_a_port_that_is_taken(bench: Bench) -> None:
    state = bench.place("state")
    volume = mounted(state, "/var/lib/unisono", writable=True)
    assert bench.run(COORDINATOR, "init", "/var/lib/unisono", "--host=here", more=(volume,)).code == 0
    bench.network = f"container:{bench.cluster.container('coordinator')}"
    ends(bench.run(COORDINATOR, "serve", more=(volume,)), 3, "8443")


# tokens


def joining(
    token: Path | None, *more: str, at: str = "coordinator:8443"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    words = (
        "client",
        f"--join={at}",
        "--token=/run/secrets/token",
        "--task=t=unisono.demo.task:BreastCancer",
    )
    mounts: tuple[str, ...] = () if token is None else (mounted(token, "/run/secrets/token"),)
    volume = any("dst=/var/lib/unisono" in word for word in more)
    state = () if volume else (f"--tmpfs=/var/lib/unisono:uid={USER},gid={USER},mode=0700",)
    return words, (*mounts, *state, *more)


def test_a_token_that_is_missing(bench: Bench) -> None:
    words, more = joining(None)
    ends(bench.run(EXAMPLE, *words, more=more), 3, "/run/secrets/token", "no such file")


def test_a_token_whose_file_was_missing_on_the_host(bench: Bench) -> None:
    words, more = joining(bench.place("token"))  # docker makes a folder of it
    ends(bench.run(EXAMPLE, *words, more=more), 3, "folder", "check its path on the host")


def test_a_token_that_is_unreadable(bench: Bench) -> None:
    words, more = joining(bench.private("token", "x", owner=0))
    ends(bench.run(EXAMPLE, *words, more=more), 3, "/run/secrets/token", "Permission denied", "chown")


def test_a_token_of_another_federation(bench: Bench) -> None:
    volume = mounted(bench.place("other"), "/var/lib/unisono", writable=True)
    founding = ("init", "/var/lib/unisono", "--host=other", "--federation=other")
    assert bench.run(COORDINATOR, *founding, more=(volume,)).code == 0
    other = bench.detached(COORDINATOR, "serve", more=(volume, "--network-alias=other"))
    bench.turns(other, "healthy")
    made = bench.cluster.engine.must("exec", other, "unisono", "token", "create", "stranger", "--json")
    token = bench.private("stranger.token", json.loads(made)["token"])
    words, more = joining(token)
    ends(bench.run(EXAMPLE, *words, more=more), 4, 'federation "other"', "ask the operator")


def test_a_token_that_was_used(bench: Bench) -> None:
    token = bench.token("once")
    words, more = joining(token)
    first = bench.detached(EXAMPLE, *words, more=more)
    bench.turns(first, "healthy")
    ends(bench.run(EXAMPLE, *words, more=more), 4, "token", "used")


# what goes wrong while it runs: the process stays, and its health says why


def test_a_name_that_is_not_in_the_certificate(bench: Bench) -> None:
    """The coordinator answers to its container's name too, which its certificate does not have.

    Joining under it is of no use and ends; a site that has joined waits, as for any trouble on the way.
    """
    name = "unisono-test-coordinator-1"
    words, more = joining(bench.token("lost"), at=f"{name}:8443")
    ends(
        bench.run(EXAMPLE, *words, more=more),
        4,
        f"certificate is for coordinator, localhost, not for {name}",
        "added to hosts in coordinator.toml",
    )
    volume = mounted(bench.place("site"), "/var/lib/unisono", writable=True)
    words, more = joining(bench.token("found"), volume)
    first = bench.detached(EXAMPLE, *words, more=more)
    bench.turns(first, "healthy")
    bench.cluster.engine.must("stop", first)
    moved = bench.detached(EXAMPLE, "client", more=(volume, f"--env=UNISONO_COORDINATOR={name}:8443"))
    said = bench.turns(moved, "unhealthy", "cannot reach")
    assert f"cannot reach {name}:8443" in said
    assert "certificate is for coordinator, localhost, not for" in said
    assert "certificate is for coordinator, localhost, not for" in bench.cluster.logs(moved)


def test_a_coordinator_that_is_away(bench: Bench) -> None:
    words, more = joining(bench.token("early"), at="nowhere:8443")
    waits = bench.detached(EXAMPLE, *words, more=more)
    bench.turns(waits, "unhealthy", "cannot reach nowhere:8443: ")  # and why, as far as DNS says
    assert "trying again" in bench.cluster.logs(waits)
    bench.cluster.engine.must("stop", "--time=30", waits)
    assert bench.cluster.state(waits)["ExitCode"] == 0  # asked to leave while it waited


@pytest.mark.parametrize(
    ("skew", "words"),
    [("+10m", "10 m 0 s ahead of the coordinator's"), ("-10m", "behind the coordinator's")],
)
def test_a_clock_that_is_wrong(bench: Bench, skew: str, words: str) -> None:
    if not FAKETIME.exists():
        pytest.skip("no libfaketime, which gives a container another time")
    name = "fast" if skew.startswith("+") else "slow"
    words_, more = joining(bench.token(name))
    fake = (mounted(FAKETIME, "/faketime.so"), "--env=LD_PRELOAD=/faketime.so", f"--env=FAKETIME={skew}",
            "--env=FAKETIME_DONT_FAKE_MONOTONIC=1")  # fmt: skip
    skewed = bench.detached(EXAMPLE, *words_, more=(*more, *fake))
    said = bench.turns(skewed, "unhealthy")
    assert "clock" in said
    assert words in said
    assert "set it" in said


def test_a_full_disk_turns_the_coordinators_health(bench: Bench) -> None:
    volume = mounted(bench.place("state"), "/var/lib/unisono", writable=True)
    assert bench.run(COORDINATOR, "init", "/var/lib/unisono", "--host=here", more=(volume,)).code == 0
    more = (volume, "--env=UNISONO_MIN_FREE_BYTES=1000000000000000")
    full = bench.detached(COORDINATOR, "serve", more=more)
    said = bench.turns(full, "unhealthy")
    assert "disk" in said
