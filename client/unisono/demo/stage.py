"""The play: a coordinator, its clients and a run, with the same command line that a user types.

Beside it, from the first moment, the baselines are trained, so that nobody waits for them in the end.
"""

import json
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from pydantic import BaseModel, JsonValue, TypeAdapter

from unisono.base.errors import Fault
from unisono.base.ids import ClientName
from unisono.client.admin.documents import Run, read
from unisono.plan import Plan

from .children import Child, Children
from .folder import Folder
from .picture import comparison, data_line, labelled, protection_line
from .screen import Screen

HOST = "localhost"
TASK_NAME, TASK = "breast-cancer", "unisono.demo.task:BreastCancer"
_START_SECONDS, _LOOK = 30.0, 0.2


class Rows(BaseModel):
    """First line of the baselines: rows to train and held out, a pair a site."""

    rows: tuple[tuple[int, int], ...]


class Accuracies(BaseModel):
    """Second line of the baselines."""

    alone: tuple[float, ...]
    pooled: float


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of it: the document of `run show --json`, and what it is compared with."""

    document: dict[str, JsonValue]
    run: Run
    baselines: Accuracies
    model: Path

    @property
    def final(self) -> dict[str, float]:
        """Accuracy and loss of the last model on the held-out rows of all sites."""
        measured = self.run.rounds[-1].metrics if self.run.rounds else None
        if not measured or not {"accuracy", "loss"} <= measured.keys():
            raise Fault(f"{self.run.id} ended without an evaluation of its last model")
        return {name: measured[name] for name in ("accuracy", "loss")}


class Stage:
    """One demo in one folder."""

    def __init__(self, folder: Folder, children: Children, screen: Screen, clients: int) -> None:
        self._folder, self._children, self._screen = folder, children, screen
        self._names = [ClientName(f"hospital-{number}") for number in range(1, clients + 1)]
        self._living: list[Child] = []
        self._ops_port = free_port()

    def play(self, plan: Plan) -> Ended:
        """Run it all.  Raises Fault for whatever fails; the caller ends the children."""
        baselines = self._children.module(
            "baselines", "unisono.demo.baselines", self._folder.plan, str(len(self._names))
        )
        lines = Follower(baselines, self._check)
        port = self._coordinator()
        self._clients(port, plan.protection.mode)
        joined = f"{len(self._names)} client{'s' * (len(self._names) > 1)} joined with one-time tokens"
        self._screen.say(labelled("federation", f"coordinator on {HOST}:{port}, {joined}, mutual TLS"))
        look = f"open http://{HOST}:{self._ops_port} to look at the run while it goes on"
        self._screen.say(labelled("dashboard", look))
        self._screen.say(protection_line(plan, len(self._names)))
        self._screen.doing("reading the data")
        self._screen.say(data_line(Rows.model_validate_json(lines.next()).rows) + "\n")
        run = self._run()
        self._screen.doing("fetching the model")
        document = self._results(run)
        self._screen.doing("waiting for the models trained alone and pooled")
        accuracies = Accuracies.model_validate_json(lines.next())
        return Ended(document, read(json.dumps(document).encode(), Run), accuracies, self._folder.model)

    def _coordinator(self) -> int:
        port, federation = free_port(), self._folder.federation
        self._screen.doing("founding the federation")
        self._command("init", "init", federation, "--host", HOST, "--port", str(port))
        self._screen.doing("starting the coordinator")
        child = self._children.command(
            "coordinator", "serve", "--dir", federation, "--host", "127.0.0.1",
            "--ops-port", str(self._ops_port),
        )  # fmt: skip
        self._living.append(child)
        until = time.monotonic() + _START_SECONDS
        while not answers(port):
            self._check()
            if time.monotonic() > until:
                raise Fault(f"the coordinator did not listen on port {port} within {_START_SECONDS:.0f} s")
            time.sleep(0.05)
        return port

    def _clients(self, port: int, mode: str) -> None:
        """Let every client in and start it.  One after the other: the n-th to join is number n.

        Each site's policy allows the demo's protection, which it has to where that is not the default.
        """
        self._screen.doing("making one-time tokens")
        made = [
            self._children.command(
                f"token {name}", "token", "create", name, "-o", self._folder.token(name), "--dir",
                self._folder.federation,
            )
            for name in self._names
        ]  # fmt: skip
        for child in made:
            self._done(child)
        for name in self._names:
            self._screen.doing(f"{name} joins")
            site, token = self._folder.client(name), self._folder.token(name)
            self._command(f"join {name}", "join", f"{HOST}:{port}", "--token", token, "--dir", site)
            token.unlink()  # spent
            (site / "client" / "policy.toml").write_text(f'protections = ["{mode}"]\n', encoding="utf-8")
            offer = f"{TASK_NAME}={TASK}"
            child = self._children.command(name, "client", "--dir", site, "--task", offer, "--device", "cpu")
            self._living.append(child)

    def _run(self) -> Run:
        watching = self._children.command(
            "run", "run", "start", self._folder.plan, "--watch", "--json", "--dir", self._folder.federation,
            piped=True,
        )  # fmt: skip
        run: Run | None = None
        for line in Follower(watching, self._check):
            run = read(line.encode(), Run)
            self._screen.progress(run)
        self._done(watching)
        if run is None or run.state != "finished":
            raise Fault(f"the run did not finish: {run.reason if run else 'nothing was heard of it'}")
        return run

    def _results(self, run: Run) -> dict[str, JsonValue]:
        """Return what `run show --json` says, and have the model pulled meanwhile."""
        where = ("--dir", self._folder.federation)
        pulling = self._children.command("model", "model", "pull", run.id, "-o", self._folder.model, *where)
        showing = self._children.command("show", "run", "show", run.id, "--json", *where, piped=True)
        document = TypeAdapter(dict[str, JsonValue]).validate_json(self._done(showing))
        self._done(pulling)
        return document

    def _command(self, name: str, *words: str | Path) -> None:
        self._done(self._children.command(name, *words))

    def _done(self, child: Child) -> str:
        """Wait for the end of a command.  If one it needs has died, that is the failure to name."""
        try:
            return self._children.done(child)
        except Fault:
            self._check()
            raise

    def _check(self) -> None:
        self._children.check(self._living)


class Follower:
    """The lines of a child's pipe, while others are looked after."""

    def __init__(self, child: Child, check: Callable[[], None]) -> None:
        self._child, self._check = child, check
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        Thread(target=self._read, name=f"lines of {child.name}", daemon=True).start()

    def __iter__(self) -> Iterator[str]:
        while (line := self._line()) is not None:
            yield line

    def next(self) -> str:
        """Return the next line.  Raises Fault if the child ends without one."""
        line = self._line()
        if line is None:
            self._child.process.wait()
            raise self._child.failed()
        return line

    def _line(self) -> str | None:
        while True:
            try:
                return self._lines.get(timeout=_LOOK)
            except Empty:
                self._check()

    def _read(self) -> None:
        stream = self._child.process.stdout
        for line in stream or ():
            self._lines.put(line)
        self._lines.put(None)


def summary(ended: Ended, model: Path) -> list[str]:
    """Write the end: the comparison, where the model lies, what to do next."""
    run, spelled, federation = (
        ended.run,
        shlex.quote(str(model)),
        shlex.quote(str(model.parent / "federation")),
    )
    what = f"({TASK_NAME}, {len(run.rounds)} rounds, sha256 {(run.model_sha256 or '')[:12]})"
    return [
        "",
        *comparison(ended.final["accuracy"], ended.baselines.alone, ended.baselines.pooled),
        "",
        labelled("model", f"{spelled}   {what}"),
        labelled("next", f"unisono predict --model {spelled} --task {TASK} -o predictions.csv"),
        labelled("", f"unisono serve --dir {federation}   and open http://localhost:8444 to look at the run"),
    ]


def plan_text(clients: int, rounds: int, protection: str) -> str:
    """Return the plan of a demo, as a person would write it."""
    return f"""\
task = "{TASK_NAME}"
seed = 1

[rounds]
count = {rounds}

[cohort]
size = {clients}

[training]
epochs = 1
batch_size = 10
optimizer = "adam"
learning_rate = 0.01

[protection]
mode = "{protection}"

[task_parameters]
parts = {clients}
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
