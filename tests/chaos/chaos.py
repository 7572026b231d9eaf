"""Chaos: real processes, TLS and disks are hurt at random for a while; nothing may come of it.

Five clients train the digits example with `secagg`, run after run, while a timetable drawn from a seed kills,
stops, cuts, slows, forgets and fills disks.  Then the same runs are played once more in peace: every model of
every round must have the same bytes.  The last line on stdout is one JSON object; exit code 0 only if
`same_as_quiet_run` is true and no round was lost.

    python tests/chaos/chaos.py --seconds 300 --seed 7
"""

import argparse
import heapq
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from cables import Cables, Loopback, Namespaces, namespaces_work, relays_of, unshared
from rehearsal import Operator, Played
from stage import LEAST_FREE, Stage, Trouble
from timetable import COORDINATOR, Fault, timetable

CLIENTS = tuple(f"site-{number}" for number in range(1, 6))
DISK_BYTES = 48_000_000
LATENCY, RATE = 0.2, 2_000_000.0  # of a slow link: seconds each way, bytes a second
STUCK = 240.0  # seconds without a new round: far more than any fault lasts
MOST_ENDS = 10  # of processes by themselves: then it is not chaos that ends them
LOOK = 0.05


class Log:
    """What was done and seen, a JSON line each."""

    def __init__(self, file: Path) -> None:
        self._out: TextIO = file.open("a", buffering=1)
        self._began = time.monotonic()

    def __call__(self, what: str, **fields: Any) -> None:
        at = round(time.monotonic() - self._began, 3)
        self._out.write(json.dumps({"at": at, "what": what, **fields}) + "\n")


@dataclass(slots=True)
class Play:
    """Hurts a stage by a timetable, and puts everything right again."""

    stage: Stage
    operator: Operator
    faults: tuple[Fault, ...]
    log: Log
    counts: Counter[str] = field(default_factory=Counter)
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: "count[int]" = field(default_factory=count)
    _down: set[str] = field(default_factory=set)  # killed by us, started again in a moment

    def run(self, seconds: float) -> None:
        """Play, then wait in peace for the run that goes on."""
        began = self.operator.moved = time.monotonic()
        for fault in self.faults:
            self._at(began + fault.at, partial(self._begin, fault))
        while time.monotonic() < began + seconds:
            self._turn(more=True)
        self._calm()
        while self.operator.busy:
            self._turn(more=False)

    def peace(self, runs: int) -> None:
        """Play so many runs with nothing in the way."""
        self.operator.moved = time.monotonic()
        while self.operator.busy or len(self.operator.played) < runs:
            self._turn(more=len(self.operator.played) < runs)

    def _turn(self, *, more: bool) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        self._supervise()
        self.operator.turn(more=more)
        if time.monotonic() - self.operator.moved > STUCK:
            raise Trouble(
                f"no round for {STUCK:g} s: {json.dumps((self.operator.current or {}).get('status'))}"
            )
        time.sleep(LOOK)

    def _supervise(self) -> None:
        """Start again what ended by itself, as a service manager would, and count it."""
        for who in {COORDINATOR, *CLIENTS} - self.stage.alive() - self._down:
            code = self.stage.processes[who].returncode
            self.counts["ended_by_themselves"] += 1
            self.log("ended_by_itself", who=who, code=code, last=self.stage.log(who).read_text()[-300:])
            if self.counts["ended_by_themselves"] > MOST_ENDS:
                raise Trouble(f"{who} ends again and again:\n{self.stage.log(who).read_text()[-600:]}")
            self._restart(who, 1.0)

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._later, (when, next(self._number), what))

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, what)

    def _restart(self, who: str, after: float) -> None:
        self._down.add(who)

        def start() -> None:
            self._down.discard(who)
            self.stage.start(who)

        self._after(after, start)

    def _calm(self) -> None:
        """End all that is not over, now."""
        self.log("calm")
        while self._later:
            _, _, what = heapq.heappop(self._later)
            what()

    def _begin(self, fault: Fault) -> None:
        if fault.target in self._down or fault.target not in self.stage.alive():
            self.log("skipped", fault=asdict(fault))
            return
        self.counts[fault.kind] += 1
        self.log("fault", fault=asdict(fault))
        {
            "kill": self._kill, "power": self._kill, "trainer": self._trainer, "stop": self._stop,
            "cut": self._cut, "slow": self._link, "half_open": self._link, "dark": self._darken,
            "disk_full": self._fill, "disk_low": self._fill,
        }[fault.kind](fault)  # fmt: skip

    def _kill(self, fault: Fault) -> None:
        (self.stage.kill if fault.kind == "kill" else self.stage.power)(fault.target)
        self._restart(fault.target, fault.seconds)

    def _trainer(self, fault: Fault) -> None:
        self.log("trainers_killed", who=fault.target, found=self.stage.kill_trainer(fault.target))

    def _stop(self, fault: Fault) -> None:
        self.stage.pause(fault.target)
        self._after(fault.seconds, lambda: self.stage.resume(fault.target))

    def _cut(self, fault: Fault) -> None:
        for relay in relays_of(self.stage.cables, fault.target):
            relay.cut()

    def _link(self, fault: Fault) -> None:
        for relay in relays_of(self.stage.cables, fault.target):
            if fault.kind == "slow":
                relay.slow(LATENCY, RATE)
            else:
                relay.forget()
            self._after(fault.seconds, relay.heal)

    def _darken(self, fault: Fault) -> None:
        self.stage.cables.dark(fault.target, True)
        self._after(fault.seconds, lambda: self.stage.cables.dark(fault.target, False))

    def _fill(self, fault: Fault) -> None:
        disk = self.stage.disks[fault.target]
        leave = LEAST_FREE // 2 if fault.kind == "disk_low" else 0
        self.log("filled", who=fault.target, ballast=disk.fill(leave))
        self._after(fault.seconds, disk.free)


@dataclass(slots=True)
class Theatre:
    """Folder, cables and both stages; leaving it ends every process."""

    root: Path
    cables: Cables
    log: Log
    disks: bool
    keep: bool
    stages: list[Stage] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for operator in self.operators:
            operator.close()
        for stage in self.stages:
            stage.end()
        self.cables.close()
        for disk in (disk for stage in self.stages for disk in stage.disks.values()):
            disk.release(keep=self.keep or kind is not None)

    def stage(self, name: str) -> Stage:
        stage = Stage(self.root / name, CLIENTS, self.cables, self.log)
        self.stages.append(stage)
        return stage

    def operator(self, stage: Stage, rounds: int) -> Operator:
        self.operators.append(Operator(stage, rounds))
        return self.operators[-1]

    def up(self) -> int:
        return sum(relay.up for relay in self.cables.relays.values())


def play(theatre: Theatre, seed: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Play in trouble, then in peace; return the line."""
    began = time.monotonic()
    loud = theatre.stage("loud")
    loud.root.mkdir()
    loud.found(theatre.cables.port)
    shutil.copytree(loud.root, theatre.root / "quiet")
    if theatre.disks:
        loud.mount(DISK_BYTES)
    faults = timetable(seed, seconds, CLIENTS, disks=theatre.disks)
    for who in (COORDINATOR, *CLIENTS):
        loud.start(who)
    loud.listening()
    operator = theatre.operator(loud, rounds)
    show = Play(loud, operator, faults, theatre.log)
    show.run(seconds)
    loud.end()
    noisy = theatre.up()
    quiet = _in_peace(theatre, rounds, len(operator.played))
    return _line(theatre, show, quiet, noisy) | {"seed": seed, "seconds": round(time.monotonic() - began, 1)}


def _in_peace(theatre: Theatre, rounds: int, runs: int) -> list[Played]:
    """Play as many runs again, undisturbed."""
    theatre.log("quiet", runs=runs)
    stage = theatre.stage("quiet")
    for who in (COORDINATOR, *CLIENTS):
        stage.start(who)
    stage.listening()
    operator = theatre.operator(stage, rounds)
    Play(stage, operator, (), theatre.log).peace(runs)
    stage.end()
    return operator.played


def _line(theatre: Theatre, show: Play, quiet: list[Played], noisy: int) -> dict[str, Any]:
    """Compare, and say it."""
    loud, counts = show.operator.played, show.counts
    models = [model for run in loud for model in run.models]
    lost = sum(len(row["survivors"]) != len(CLIENTS) for run in loud for row in run.document["rounds"])
    lost += sum(show.operator.rounds - len(run.models) for run in loud)
    same = bool(models) and models == [model for run in quiet for model in run.models]
    quiet_up = theatre.up() - noisy
    return {
        "rounds": len(models),
        "kills": counts["kill"] + counts["power"] + counts["trainer"],
        "cuts": counts["cut"],
        "bytes_sent_again": max(0, noisy - quiet_up),
        "model_sha256": models[-1] if models else "",
        "same_as_quiet_run": same,
        "lost_rounds": lost,
        "attempts_lost": sum(run.attempts for run in loud),
        "runs": len(loud),
        "stops": counts["stop"],
        "slow": counts["slow"],
        "half_open": counts["half_open"],
        "dark": counts["dark"],
        "disk_full": counts["disk_full"] + counts["disk_low"],
        "ended_by_themselves": counts["ended_by_themselves"],
        "network": "namespaces" if isinstance(theatre.cables, Namespaces) else "loopback",
    }


def _inside(arguments: argparse.Namespace) -> int:
    """Do it all; `arguments.folder` is there and is the caller's to remove."""
    root = Path(arguments.folder)
    log = Log(root / "chaos.log")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # everything is put away on the way out
    if arguments.loopback:
        cables: Cables = Loopback(CLIENTS)
    else:
        os.makedirs("/run/netns", exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "unisono-chaos", "/run/netns"], check=True)
        cables = Namespaces(CLIENTS)
    try:
        with Theatre(root, cables, log, not arguments.loopback, arguments.keep) as theatre:
            line = play(theatre, arguments.seed, arguments.seconds, arguments.rounds)
            if not line["same_as_quiet_run"] or line["lost_rounds"]:
                print(json.dumps(line), flush=True)
                raise Trouble("the models differ from those of the quiet run")
    except KeyboardInterrupt:
        return 130
    except Trouble as trouble:
        log("trouble", text=str(trouble))
        print(trouble, file=sys.stderr)
        return 1
    log("line", **line)
    print(json.dumps(line), flush=True)
    return 0


def _outside(arguments: argparse.Namespace) -> int:
    """Give the play a folder and, where it may be had, a network of its own; clean up after it."""
    folder = tempfile.mkdtemp(prefix="unisono-chaos-")
    loopback = arguments.loopback or not namespaces_work()
    words = [sys.executable, __file__, "--inside", "--folder", folder]
    for name in ("seed", "seconds", "rounds"):
        words += [f"--{name}", str(getattr(arguments, name))]
    print(f"chaos: seed {arguments.seed}, {arguments.seconds:g} s, log {folder}/chaos.log", file=sys.stderr)
    words += ["--keep"] if arguments.keep else []
    command = [*words, "--loopback"] if loopback else [*unshared(), *words]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = 130
    finally:
        process.send_signal(signal.SIGTERM if loopback else signal.SIGKILL)  # unshare's end is everybody's
        process.wait()
        if code == 1 or arguments.keep:
            print(f"chaos: seed {arguments.seed}; everything is kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--rounds", type=int, default=0, help="of each run; 20, or 10 in less than a minute")
    parser.add_argument("--loopback", action="store_true", help="no namespaces, no full disks")
    parser.add_argument("--keep", action="store_true", help="keep the folders also when all is well")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (10 if arguments.seconds < 60 else 20)
    return _inside(arguments) if arguments.inside else _outside(arguments)


if __name__ == "__main__":
    sys.exit(main())
