"""The shipped docker-compose.yml, brought up for tests."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import Engine, Said, command

Document = dict[str, Any]
TIMES: dict[str, float] = {}  # what took how long; told at the end, not asserted
ENDED = ("finished", "failed", "stopped")


def eventually(
    what: Callable[[], object], seconds: float, told: Callable[[], str] = lambda: "", pause: float = 0.3
) -> None:
    """Wait until `what` holds.  Waits are on a busy machine's time, so the limits are far above the usual."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, f"not within {seconds:.0f} s\n{told()}"
        time.sleep(pause)


@dataclass(slots=True)
class Cluster:
    """One project of compose."""

    engine: Engine
    files: Sequence[Path]
    began: float = 0.0  # when `up` was called

    def compose(self, *words: str | Path, seconds: float = 600.0) -> Said:
        files = [word for file in self.files for word in ("-f", str(file))]
        return command(
            *self.engine.compose, *files, *words, seconds=seconds, environment=self.engine.environment
        )

    def must(self, *words: str | Path, seconds: float = 600.0) -> str:
        said = self.compose(*words, seconds=seconds)
        assert said.code == 0, f"compose {' '.join(map(str, words))}: {said.code}\n{said.out[-4000:]}"
        return said.out

    def up(self, clients: int, *words: str) -> None:
        said = self.compose("up", "-d", f"--scale=client={clients}", *words)
        assert said.code == 0, f"{said.out[-1500:]}\n{self.compose('logs', '--tail=20').out[-4000:]}"

    def container(self, service: str) -> str:
        return self.containers(service)[0]

    def containers(self, service: str) -> list[str]:
        return self.must("ps", "-a", "-q", service).split()

    def state(self, container: str) -> Document:
        found: Document = json.loads(self.engine.must("inspect", "-f", "{{json .State}}", container))
        return found

    def health(self, container: str) -> tuple[str, str]:
        """Return what the engine thinks of a container, and what its last check said."""
        health = self.state(container).get("Health", {})
        log = health.get("Log") or [{}]
        return str(health.get("Status", "")), str(log[-1].get("Output", "")).strip()

    def turns(self, container: str, health: str, words: str = "", seconds: float = 90.0) -> str:
        """Wait for a container's health, and for words that its check says; return all that it says."""

        def turned() -> bool:
            state, said = self.health(container)
            return state == health and words in said

        eventually(
            turned,
            seconds,
            lambda: f"{self.health(container)}\n{self.logs(container)[-2000:]}",
        )
        return self.health(container)[1]

    def logs(self, container: str) -> str:
        return self.engine("logs", container).out

    # the operator, as the documentation has it: docker compose exec coordinator unisono ...

    def unisono(self, *words: str, seconds: float = 120.0) -> Said:
        return self.compose("exec", "-T", "coordinator", "unisono", *words, seconds=seconds)

    def asked(self, *words: str) -> Document:
        said = self.unisono(*words, "--json")
        assert said.code == 0, said.out
        document: Document = json.loads(said.last)
        return document

    def start(self, plan: str) -> str:
        """Start a run of a plan that is given as text."""
        said = command(
            self.engine.docker, "exec", "-i", self.container("coordinator"),
            "sh", "-c", "cat >/tmp/plan.toml",
            environment=self.engine.environment, feed=plan,
        )  # fmt: skip
        assert said.code == 0, said.out
        return str(self.asked("run", "start", "/tmp/plan.toml")["id"])  # noqa: S108 - in the container

    def run(self, run: str) -> Document:
        return self.asked("run", "show", run)

    def reached(self, run: str, round_: int, seconds: float = 240.0) -> None:
        """Wait until a run has published a round."""
        eventually(lambda: self.published(run) >= round_, seconds, lambda: str(self.run(run)["status"]))

    def published(self, run: str) -> int:
        document = self.run(run)
        assert document["state"] not in ("failed", "stopped"), document["reason"]
        return int(document.get("rounds_published") or len(document["rounds"]))

    def stop(self, run: str) -> Document:
        """End a run that need not go on; return it."""
        said = self.unisono("run", "stop", run)
        assert said.code == 0, said.out
        document = self.run(run)
        assert document["state"] == "stopped"
        return document

    def finished(self, run: str, seconds: float = 180.0) -> Document:
        eventually(
            lambda: self.run(run)["state"] in ENDED, seconds, lambda: str(self.run(run)["status"]), 1.0
        )
        document = self.run(run)
        assert document["state"] == "finished", document["reason"]
        return document

    def online(self, clients: int, seconds: float = 120.0) -> list[Document]:
        def now() -> list[Document]:
            return [c for c in self.asked("clients")["clients"] if c["state"] == "online"]

        eventually(lambda: len(now()) == clients, seconds, lambda: str(now()), 1.0)
        return now()

    def site_of(self, container: str) -> str:
        """Return the site that a client's container is: it says so when it connects."""
        words = self.logs(container).split()
        return next(word.removeprefix("name=") for word in reversed(words) if word.startswith("name=site-"))


def plan(rounds: int) -> str:
    """Return the example's plan with so many rounds."""
    return (
        f'task = "breast-cancer"\nseed = 1\n[rounds]\ncount = {rounds}\n'
        "[cohort]\nsize = 0\nwait_seconds = 300\n"
        '[training]\nepochs = 1\nbatch_size = 10\noptimizer = "adam"\nlearning_rate = 0.01\n'
        '[protection]\nmode = "secagg"\n[task_parameters]\nparts = 10\n'
    )
