"""A Docker engine for the tests: the one that this machine has, or one started here for them alone.

One that is started here lives in a network namespace of its own, so that its bridges, ports and packet filter
are gone with it and meet nobody else's; its folder is temporary, and it is ended by its own process id.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DOCKER = "/usr/bin/docker"  # Debian's own: another one earlier on the path may lack what `build` needs
OFFLINE = "UNISONO_OFFLINE_ENGINE"  # set: the engine of DOCKER_HOST has no way to a registry
PACKAGES = ("docker.io", "mmdebstrap", "iptables", "iproute2", "libfaketime", "systemd")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
ROOT = Path(__file__).parents[2]


class NoEngine(Exception):
    """There is none and none can be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str  # both streams, as they came

    @property
    def last(self) -> str:
        return self.out.strip().splitlines()[-1] if self.out.strip() else ""


def command(
    *words: str | Path, seconds: float = 300.0, environment: Mapping[str, str] | None = None, feed: str = ""
) -> Said:
    """Run one command to its end; a program that is not there is code 127."""
    if shutil.which(str(words[0])) is None:
        return Said(127, f"{words[0]}: there is no such program")
    done = subprocess.run(  # noqa: S603
        [str(word) for word in words],
        input=feed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    return Said(done.returncode, done.stdout)


def must(*words: str | Path, seconds: float = 300.0, environment: Mapping[str, str] | None = None) -> str:
    """Run one command that must succeed; return what it said."""
    said = command(*words, seconds=seconds, environment=environment)
    assert said.code == 0, f"{' '.join(map(str, words))}: {said.code}\n{said.out[-4000:]}"
    return said.out


@dataclass(slots=True)
class Engine:
    """Where the engine is and how it is asked.  `offline`: no registry is within its reach."""

    docker: str
    compose: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    offline: bool
    process: "subprocess.Popen[bytes] | None" = None

    def __call__(self, *words: str | Path, seconds: float = 300.0) -> Said:
        return command(self.docker, *words, seconds=seconds, environment=self.environment)

    def must(self, *words: str | Path, seconds: float = 300.0) -> str:
        return must(self.docker, *words, seconds=seconds, environment=self.environment)

    def close(self) -> None:
        """End the engine that was started here, and only that one."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        _unmounted(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def _unmounted(folder: Path) -> None:
    """Let go of what an engine that was killed may have left mounted below its folder."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        command("umount", "--lazy", mount)


def found() -> Engine:
    """Return an engine.  Raises NoEngine."""
    compose = _compose()
    environment = {**os.environ, "DOCKER_BUILDKIT": "1", "COMPOSE_PROJECT_NAME": "unisono-test"}
    docker = _docker()
    folder = Path(tempfile.mkdtemp(prefix="unisono-engine-"))
    if Path(docker).exists() and command(docker, "version", environment=environment).code == 0:
        return Engine(docker, compose, environment, folder, offline=OFFLINE in os.environ)
    try:
        _installed()
        return _started(folder, compose, environment)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _docker() -> str:
    """Return a docker that can build: the first of the path may lack its plug-in for that."""
    first = shutil.which("docker") or DOCKER
    return first if command(first, "buildx", "version").code == 0 else DOCKER


def _compose() -> tuple[str, ...]:
    """Return how compose is called: its binary out of the wheel, whose wrapper would hide the exit code."""
    binary = ROOT / ".venv-tools" / "compose"
    if binary.exists():
        return (str(binary),)
    if command("docker", "compose", "version").code == 0:
        return ("docker", "compose")
    raise NoEngine("there is no docker compose: `make containers` installs it")


def _installed() -> None:
    needed = ("dockerd", "mmdebstrap", "iptables", "ip", "unshare")
    if os.geteuid() != 0:
        raise NoEngine(
            "no Docker engine answers, and only root can start one; start Docker, or set DOCKER_HOST"
        )
    if all(shutil.which(name) for name in needed) and FAKETIME.exists():
        return
    if shutil.which("apt-get") is None:
        raise NoEngine("no Docker engine answers, and without apt-get none can be installed here")
    must("apt-get", "update")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    must("apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES, environment=environment)


def _started(folder: Path, compose: tuple[str, ...], environment: dict[str, str]) -> Engine:
    socket = folder / "d.sock"
    line = (
        f"ip link set lo up; exec dockerd --data-root {folder}/data --exec-root {folder}/exec "
        f"-H unix://{socket} -p {folder}/pid"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            ["/usr/bin/setpriv", "--pdeathsig=TERM", "unshare", "--net", "sh", "-euc", line],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    engine = Engine(
        DOCKER,
        compose,
        {**environment, "DOCKER_HOST": f"unix://{socket}"},
        folder,
        offline=True,
        process=process,
    )
    until = time.monotonic() + 60
    while engine("version").code != 0:
        if process.poll() is not None or time.monotonic() > until:
            tail = (folder / "log").read_text()[-1500:]
            engine.close()
            raise NoEngine(f"a Docker engine cannot run here:\n{tail}")
        time.sleep(0.2)
    return engine
