"""What a fault costs: processes are killed in the middle of a round, an upload is cut five times.

    python benchmarks/faults.py                        # 1 MB, 4 clients, three of each: about three minutes
    python benchmarks/faults.py --protection sealed    # without masks
    python benchmarks/faults.py --only upload          # one row

Everything goes through the command line that a user types, over loopback and mutual TLS.  What a fault adds
is the time of its round beyond the median of the rounds of a quiet run.  Timings never fail anything.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from federation import Failed, Federation, Setting
from measuring import children

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "chaos"))

from relay import Relay, Relays  # noqa: E402 - the chaos suite's, which is no package

TASK = f"arrays={HERE.parent / 'tests' / 'e2e' / 'tasks.py'}:Arrays"
VICTIM = 2
IDLE = 5.0  # idle_seconds where somebody is gone for good
PLAN = """\
task = "arrays"
seed = 1

[rounds]
count = {rounds}
idle_seconds = {idle}

[cohort]
size = {clients}

[protection]
mode = "{protection}"

[task_parameters]
size = {size}
seconds = {seconds}
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured, and how often."""

    clients: int
    mb: float
    seconds: float  # that a training takes
    repetitions: int
    protection: str


@dataclass(frozen=True, slots=True)
class Found:
    """One fault: how long its round lasted, how many counted in it, in which attempt."""

    lasted: float
    survivors: int
    attempts: int


class Play:
    """A federation of which one member after another is hurt."""

    def __init__(self, federation: Federation, asked: Asked) -> None:
        self._f, self._asked = federation, asked
        self._log, self._begun = federation.site(VICTIM) / "client" / "trainer.log", 0

    def quiet(self) -> float:
        """Return how long a round lasts that nothing befalls: the median of a run's, but for the first."""
        run = self._start(4, 60.0)
        self._f.finished(run)
        lasted = [after - before for before, after in pairwise(self._f.published(run)[1:])]
        print(f"rounds in peace: {_seconds(lasted)}", file=sys.stderr)
        return statistics.median(lasted)

    def hurt(self, fault: "Callable[[Play], None]", rounds: int, idle: float = 60.0) -> list[Found]:
        """Play a run in which `fault` befalls every second round; return what each cost."""
        run, hurt = self._start(rounds, idle), range(2, rounds, 2)
        for number in hurt:
            self._until_training(number)
            fault(self)
        document = self._f.finished(run)
        rows = {row["round"]: row for row in document["rounds"]}
        lasted = [after - before for before, after in pairwise(self._f.published(run))]
        print(f"{fault.__name__}: {_seconds(lasted)}", file=sys.stderr)
        return [Found(lasted[n - 1], len(rows[n]["survivors"]), rows[n]["attempts"]) for n in hurt]

    def _start(self, rounds: int, idle: float) -> str:
        self._begun = self._log.stat().st_size if self._log.exists() else 0  # what earlier runs said
        values = {"rounds": rounds, "idle": idle, "size": round(self._asked.mb * 250_000)}
        return self._f.run_plan(
            PLAN.format(
                clients=self._asked.clients, protection=self._asked.protection,
                seconds=self._asked.seconds, **values,
            )
        )  # fmt: skip

    def _until_training(self, number: int) -> None:
        """Return when the victim is a third of the way through a round's training."""
        said = f"training in round {number}\n".encode()
        for _ in self._f.patience(120, f"training in round {number}"):
            if said in self._log.read_bytes()[self._begun :]:
                break
        time.sleep(self._asked.seconds / 3)

    # faults

    def coordinator(self) -> None:
        """Kill the coordinator and start it again."""
        assert self._f.coordinator is not None
        _kill(self._f.coordinator.pid)
        self._f.coordinator.wait()
        self._f.serve()

    def trainer(self) -> None:
        """Kill the process in which the victim's task runs."""
        for pid in children(self._f.clients[VICTIM - 1].pid):
            os.kill(pid, signal.SIGKILL)

    def client(self) -> None:
        """Kill the victim and all it started, and start it again."""
        self.gone()
        self.back()

    def gone(self) -> None:
        """Kill the victim and all it started."""
        victim = self._f.clients[VICTIM - 1]
        for pid in children(victim.pid):
            _kill(pid)
        _kill(victim.pid)
        victim.wait()
        self._f.clients[VICTIM - 1] = self._f.clients[0]  # who is asked whether it is well

    def back(self) -> None:
        """Start the victim again."""
        self._f.clients[VICTIM - 1] = self._f._client(VICTIM)


def _seconds(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values) + " s"


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def gone_for_good(play: Play, asked: Asked) -> list[Found]:
    """Let the victim go in round 2 of as many runs; the last round is played without it."""
    found = []
    for _ in range(asked.repetitions):
        found += play.hurt(Play.gone, 3, IDLE)
        play.back()
        play._f.connected()
    return found


def cut_upload(federation: Federation, relay: Relay, asked: Asked) -> list[float]:
    """Cut an upload of 25 MB five times; return the bytes that went up by its size, of each time."""
    found = []
    plan = PLAN.format(
        rounds=2, idle=60.0, clients=asked.clients, protection="sealed", size=6_250_000, seconds=2.0
    )
    for _ in range(asked.repetitions):
        run = federation.run_plan(plan)
        for _ in federation.patience(300, "round 1", step=0.05):
            if len(federation.published(run)) > 1:
                break
        relay.slow(0.0, 30e6)  # or it would be over before anybody can cut it
        before, cuts = relay.up, relay.cuts
        for _ in range(5):
            relay.cut_after(4_000_000)
            for _ in federation.patience(120, "a cut", step=0.002):
                if relay.cuts > cuts:
                    cuts = relay.cuts
                    break
        document = federation.finished(run)
        relay.heal()
        size = document["rounds"][1]["bytes_in"] / asked.clients
        found.append((relay.up - before) / size)
        print(f"upload of {size / 1e6:.1f} MB: {(relay.up - before) / 1e6:.1f} MB went up", file=sys.stderr)
    return found


@contextmanager
def _federation(asked: Asked, mb: float) -> Iterator[Federation]:
    setting = Setting(mb=mb, clients=asked.clients, rounds=0, protection=asked.protection, task=TASK)
    with (
        tempfile.TemporaryDirectory(prefix="unisono-faults-") as folder,
        Federation(Path(folder), setting) as federation,
    ):
        federation.found()
        yield federation


def measure_kills(asked: Asked, wanted: set[str]) -> tuple[float, dict[str, list[Found]]]:
    """Measure a round in peace, and the rows in which processes are killed."""
    rounds, found = 2 * asked.repetitions + 1, dict[str, list[Found]]()
    faults = {"coordinator": Play.coordinator, "trainer": Play.trainer, "client": Play.client}
    with _federation(asked, asked.mb) as federation:
        federation.start_clients()
        federation.connected()
        play = Play(federation, asked)
        usual = play.quiet()
        for name in [name for name in faults if name in wanted]:
            found[name] = play.hurt(faults[name], rounds)
        if "gone" in wanted:
            found["gone"] = gone_for_good(play, asked)
    return usual, found


def measure_cuts(asked: Asked) -> list[float]:
    """Measure the row in which a link is cut."""
    relays = Relays()
    try:
        with _federation(asked, 25.0) as federation:
            relay = relays.add(("127.0.0.1", 0), ("127.0.0.1", federation.port))
            settings = federation.site(VICTIM) / "client" / "client.toml"
            port = relay.address[1]
            settings.write_text(settings.read_text().replace(str(federation.port), str(port)))
            federation.start_clients()
            federation.connected()
            return cut_upload(federation, relay, asked)
    finally:
        relays.close()


GOALS = {
    "coordinator": ("coordinator killed and started again in the middle of a round", 3.0),
    "trainer": ("a client's trainer killed", 2.0),
    "client": ("a client killed and started again", 3.0),
    "gone": (f"a client gone for good, `idle_seconds = {IDLE:g}`", IDLE + 1.0),
}


def _row(name: str, usual: float, found: list[Found], clients: int) -> str:
    words, most = GOALS[name]
    added = statistics.median(one.lasted for one in found) - usual
    left, tries = min(one.survivors for one in found), max(one.attempts for one in found)
    expected = clients - 1 if name == "gone" else clients
    mark = "" if added <= most and left == expected and tries == 1 else "missed"
    goal = (
        "dropped after `idle_seconds`, the others' sum published" if name == "gone" else f"round + {most:g} s"
    )
    return (
        f"| {words} | {goal} | round + {added:.1f} s, {left} of {clients} counted, attempt {tries} | {mark} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--mb", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a training takes")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--protection", default="secagg", choices=["secagg", "sealed"])
    parser.add_argument("--only", action="append", choices=[*GOALS, "upload"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    wanted = set(arguments.only or (*GOALS, "upload"))
    asked = Asked(
        arguments.clients, arguments.mb, arguments.seconds, arguments.repetitions, arguments.protection
    )
    try:
        usual, kills = measure_kills(asked, wanted) if wanted - {"upload"} else (0.0, {})
        cuts = measure_cuts(asked) if "upload" in wanted else []
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    if arguments.json:
        added = {name: [round(one.lasted - usual, 3) for one in found] for name, found in kills.items()}
        print(json.dumps(added | {"upload": cuts}))
        return 0
    print(
        f"| fault ({asked.mb:g} MB, {asked.clients} clients, `{asked.protection}`) | at most | measured | |"
    )
    print("|---|---|---|---|")
    for name in [name for name in GOALS if name in kills]:
        print(_row(name, usual, kills[name], asked.clients))
    if cuts:
        ratio = statistics.median(cuts)
        mark = "" if ratio <= 1.2 else "missed"
        print(f"| 25 MB upload cut 5 times | 1.2 x the bytes | {ratio:.2f} x | {mark} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
