"""What a crowd costs a round: clients that connect at once and poll while others upload.

    python benchmarks/crowd.py                                   # 500 beside a round of 8 x 25 MB
    python benchmarks/crowd.py --crowd 60 --mb 1 --clients 4 --rounds 3 --json

A quiet run first, then the same while the crowd connects: real mutual TLS, each with a certificate and a
connection of its own, `Hello` and then questions that stay open, as a client that waits for a run.  The
crowd lives in a few processes (`crowding.py`).  Who is put off obeys the coordinator's delay; the exit code
is 1 if anybody was refused for good, or never got in.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from crowding import Guest, Tally, enrolled
from federation import Federation, Setting
from measuring import forget_peak, status_mb

PROCESSES = 4
SHARE = 0.5  # of the crowd is in before the run with it begins; the others connect while it goes on


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    round_seconds: float
    peak_rss_mb: float


@dataclass(slots=True)
class Result:
    """What is printed."""

    crowd: int
    quiet: Measured
    crowded: Measured
    tally: Tally

    @property
    def slower(self) -> float:
        return self.crowded.round_seconds / self.quiet.round_seconds

    def document(self) -> dict[str, object]:
        return asdict(self) | {"slower": round(self.slower, 3), "goals": {"slower": 2.0, "peak_rss_mb": 400}}

    def table(self) -> str:
        quiet, full, tally = self.quiet, self.crowded, self.tally
        rows = [
            ("", "quiet", f"with {self.crowd} more", "goal"),
            ("median round", f"{quiet.round_seconds:.2f} s", f"{full.round_seconds:.2f} s", ""),
            ("slower", "", f"{self.slower:.2f} x", "2 x"),
            ("coordinator RSS, peak", f"{quiet.peak_rss_mb:.0f} MB", f"{full.peak_rss_mb:.0f} MB", "400 MB"),
            ("got in", "", f"{tally.inside} of {self.crowd}", "all"),
            ("the last after", "", f"{tally.last_in_seconds:.1f} s", ""),
            ("answers to questions", "", str(tally.answers), ""),
            ("put off, came back", "", str(tally.put_off), ""),
            ("refused for good", "", str(tally.refused), "0"),
        ]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|---" * 4 + "|", *lines[1:]])


def measure(setting: Setting, crowd: int, folder: Path) -> Result:
    """Play both runs."""
    with tempfile.TemporaryDirectory(prefix="unisono-crowd-", dir=folder) as place, ExitStack() as ending:
        federation = ending.enter_context(Federation(Path(place), setting))
        federation.found()
        guests = _guests(federation, crowd)
        federation.stop()  # nobody's requests of before are in what is measured
        federation.serve()
        federation.start_clients()
        federation.connected()
        time.sleep(1.0)
        quiet = _run(federation)
        processes = _crowd(federation, guests, Path(place), ending)
        _wait_for(processes, crowd, Path(place))
        crowded = _run(federation)
        tally = _tally(processes, Path(place))
    return Result(crowd, quiet, crowded, tally)


def _guests(federation: Federation, crowd: int) -> list[Guest]:
    token = federation.folder / "crowd-token"
    many = ["--uses", str(crowd), "--name-prefix", "guest"]
    federation.command("token", "create", *many, "-o", str(token), "--dir", str(federation.home))
    return enrolled(token.read_text(), federation.port, crowd)


def _run(federation: Federation) -> Measured:
    assert federation.coordinator is not None
    forget_peak(federation.coordinator.pid)
    run = federation.run(federation.setting.rounds)
    federation.finished(run)
    times = federation.published(run)
    seconds = statistics.median(b - a for a, b in pairwise(times[1:]))
    return Measured(round(seconds, 3), round(status_mb(federation.coordinator.pid, "VmHWM"), 1))


def _crowd(
    federation: Federation, guests: list[Guest], place: Path, ending: ExitStack
) -> "list[subprocess.Popen[bytes]]":
    processes = []
    for number in range(PROCESSES):
        mine = [asdict(guest) for guest in guests[number::PROCESSES]]
        task = {
            "port": federation.port,
            "guests": json.dumps(mine),
            "tally": str(place / f"tally-{number}.json"),
        }
        (place / f"guests-{number}.json").write_text(json.dumps(task))
        script = Path(__file__).with_name("crowding.py")
        process = subprocess.Popen(
            [sys.executable, str(script), str(place / f"guests-{number}.json")], stdin=subprocess.DEVNULL
        )
        ending.callback(process.wait)
        ending.callback(process.terminate)
        processes.append(process)
    return processes


def _wait_for(processes: "list[subprocess.Popen[bytes]]", crowd: int, place: Path) -> None:
    """Return when half of the crowd is inside: the rest of the storm falls into the run."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        if sum(tally.inside for tally in _read(place)) >= SHARE * crowd:
            return
        if any(process.poll() is not None for process in processes):
            raise SystemExit("a process of the crowd has ended")
        time.sleep(0.1)
    raise SystemExit("half of the crowd did not get in within 300 s")


def _tally(processes: "list[subprocess.Popen[bytes]]", place: Path) -> Tally:
    until = time.monotonic() + 120  # nobody is refused for good: all get in, given time
    while time.monotonic() < until and any(tally.outside for tally in _read(place)):
        time.sleep(0.2)
    time.sleep(1.0)
    for process in processes:
        process.terminate()
        process.wait()
    return sum(_read(place), start=Tally())


def _read(place: Path) -> list[Tally]:
    found = []
    for file in place.glob("tally-*.json"):
        found.append(Tally(**json.loads(file.read_text())))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crowd", type=int, default=500)
    parser.add_argument("--mb", type=float, default=25.0, help="size of the model, in units of 10^6 bytes")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the folders are made")  # noqa: S108
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited by all that is started
    os.environ.setdefault("UNISONO_OPS_PORT", "-1")  # several coordinators may be measured on one machine
    for limit in (
        "JOINS_PER_MINUTE",
        "JOINS_PER_MINUTE_PER_ADDRESS",
    ):  # it enrols beforehand
        os.environ.setdefault(f"UNISONO_{limit}", "1e5")
    result = measure(Setting(given.mb, given.clients, given.rounds), given.crowd, given.folder)
    print(json.dumps(result.document()) if given.json else result.table())
    return 1 if result.tally.refused or result.tally.inside < given.crowd else 0


if __name__ == "__main__":
    sys.exit(main())
