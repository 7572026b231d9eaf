"""How long a round takes, how much memory and how many bytes: real processes, a task that does nothing.

    python benchmarks/rounds.py --mb 25 --clients 8 --rounds 10 --json
    python benchmarks/rounds.py --mb 25 --clients 8 --bare          # and the same bytes moved bare
    python benchmarks/rounds.py --mb 25 --clients 32 --against 2    # memory with more clients
    python benchmarks/rounds.py --mb 1 --clients 2 --start          # only: start of everything to round 3
    python benchmarks/rounds.py --table                             # all of them beside their goals, markdown

Seconds of a round are differences between two published rounds; clients are connected before the run starts.
Client RSS is parent + trainer, each its own peak, less its size after import.  Nothing here fails because it
was slow.  As root the federation gets a network of its own, so that the loopback counts its bytes alone.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from types import FrameType

import bare
from federation import Federation, Setting
from measuring import MB, Load, children, cpu_seconds, filesystem, forget_peak, loopback_bytes, status_mb
from table import Row, markdown

OWN_NETWORK = "BENCH_OWN_NETWORK"
THIRD = "start_to_third_round_seconds"


@dataclass(frozen=True, slots=True)
class Options:
    """What else is measured, and where."""

    folder: Path
    bare: bool = False
    start: bool = True
    only_start: bool = False


@dataclass(slots=True)
class Result:
    """What is printed.  `others_cores`: CPU that other programs took meanwhile; distrust above 0.2."""

    median_round_seconds: float | None = None
    first_round_seconds: float | None = None
    start_to_third_round_seconds: float | None = None
    coordinator_peak_rss_mb: float | None = None
    client_peak_rss_mb: float | None = None
    bytes_over_payload: float | None = None
    bare_seconds: float | None = None
    ratio: float | None = None
    coordinator_idle_rss_mb: float | None = None
    client_idle_rss_mb: float | None = None
    round_seconds: list[float] = field(default_factory=list)
    shown_round_seconds: list[float] = field(default_factory=list)
    cpu_seconds_per_round: dict[str, float] = field(default_factory=dict)
    others_cores: float | None = None
    own_network: bool = OWN_NETWORK in os.environ

    def printed(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value not in (None, [], {})}


class Loopback:
    """The loopback's counter over time."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def between(self, begin: float, end: float) -> int:
        """Return the bytes between two moments of the wall clock."""
        return self._at(end) - self._at(begin)

    def _at(self, moment: float) -> int:
        return min(self._seen, key=lambda sample: abs(sample[0] - moment))[1]

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._seen.append((time.time(), loopback_bytes()))


def measure(setting: Setting, options: Options) -> Result:
    """Measure one setting in a federation of its own."""
    result = Result()
    with (
        tempfile.TemporaryDirectory(prefix="unisono-bench-", dir=options.folder) as place,
        Federation(Path(place), setting) as federation,
    ):
        federation.found()
        if not options.only_start:
            _rounds(federation, result)
        federation.stop()
        if options.start:
            result.start_to_third_round_seconds = _start(federation)
        federation.stop()
        if options.bare:
            _bare(federation, result)
    return result


def _rounds(federation: Federation, result: Result) -> None:
    setting = federation.setting
    federation.stop()  # a coordinator that has just enrolled everybody is not the one to measure
    federation.serve()
    federation.start_clients()
    federation.connected()
    time.sleep(1.0)  # until the trainers have started
    processes = Processes(federation)
    before, used, loopback = Load.now(processes.pids, time.perf_counter()), processes.used(), Loopback()
    run = federation.run(setting.rounds)
    document = federation.finished(run)
    loopback.stop()
    result.others_cores = round(Load.now(processes.pids, time.perf_counter()).others_since(before), 2)
    result.cpu_seconds_per_round = {
        name: round((seconds - used[name]) / setting.rounds, 4) for name, seconds in processes.used().items()
    }
    processes.read(result)
    times = federation.published(run)
    result.round_seconds = [round(b - a, 4) for a, b in pairwise(times[1:])]
    result.shown_round_seconds = [round(shown["seconds"], 4) for shown in document["rounds"]]
    result.first_round_seconds = round(times[1] - times[0], 4)
    if result.round_seconds:
        result.median_round_seconds = round(statistics.median(result.round_seconds), 4)
        payload = len(result.round_seconds) * setting.clients * 2 * setting.mb * MB
        result.bytes_over_payload = round(loopback.between(times[1], times[-1]) / payload, 4)


class Processes:
    """CPU and peaks of the coordinator and the clients, from a moment when all are connected and idle."""

    def __init__(self, federation: Federation) -> None:
        self._folder = federation.folder
        assert federation.coordinator is not None
        self._coordinator = federation.coordinator.pid
        self._clients = [(client.pid, children(client.pid)) for client in federation.clients]
        self._idle = {pid: status_mb(pid, "VmRSS") for pid, _ in self._clients}
        self._coordinator_idle = status_mb(self._coordinator, "VmRSS")
        for pid in self.pids:
            forget_peak(pid)

    @property
    def pids(self) -> list[int]:
        trainers = [trainer for _, found in self._clients for trainer in found]
        return [os.getpid(), self._coordinator, *(pid for pid, _ in self._clients), *trainers]

    def used(self) -> dict[str, float]:
        """Return the CPU time that each kind of process has used so far."""
        trainers = [trainer for _, found in self._clients for trainer in found]
        clients = [pid for pid, _ in self._clients]
        kinds = {"coordinator": [self._coordinator], "clients": clients, "trainers": trainers}
        return {name: cpu_seconds(pids) for name, pids in kinds.items()}

    def read(self, result: Result) -> None:
        result.coordinator_peak_rss_mb = round(status_mb(self._coordinator, "VmHWM"), 1)
        result.coordinator_idle_rss_mb = round(self._coordinator_idle, 1)
        grown, idle = [], []
        for number, (pid, trainers) in enumerate(self._clients, 1):
            (imports,) = (self._folder / f"site-{number}").glob("*.imports")
            start = self._idle[pid] + int(imports.read_text()) / MB
            peak = sum(status_mb(process, "VmHWM") for process in (pid, *trainers))
            grown.append(peak - start)
            idle.append(start)
        result.client_peak_rss_mb = round(max(grown), 1)
        result.client_idle_rss_mb = round(max(idle), 1)


def _start(federation: Federation) -> float:
    """Return the seconds from the start of all processes to the end of round 3."""
    began = time.time()
    federation.start_clients()
    federation.serve()
    run = federation.run(3)
    federation.finished(run)
    return round(federation.published(run)[3] - began, 3)


def _bare(federation: Federation, result: Result) -> None:
    sites = [federation.site(number) for number in range(1, federation.setting.clients + 1)]
    total = round(federation.setting.mb * MB)
    result.bare_seconds = round(statistics.median(bare.measure(federation.home, sites, total)), 4)
    if result.median_round_seconds is not None:
        result.ratio = round(result.median_round_seconds / result.bare_seconds, 3)


def repeated(times: int, once: Callable[[], Result]) -> dict[str, object]:
    """Return what `once` prints; of several runs the median of each number, the least, and all of them."""
    found = [once().printed() for _ in range(times)]
    if times == 1:
        return found[0]
    numbers = [name for name, value in found[0].items() if isinstance(value, float)]
    values = {name: [float(str(run[name])) for run in found] for name in numbers}
    document: dict[str, object] = {name: round(statistics.median(v), 4) for name, v in values.items()}
    return document | {"least": {name: min(v) for name, v in values.items()}, "repeats": found}


def whole_table(options: Options, repeat: int) -> str:
    """Measure every row of "Numbers to reach"."""

    def case(**changes: object) -> dict[str, object]:
        what = {name: changes.pop(name) for name in ("mb", "clients", "rounds") if name in changes}
        setting = replace(Setting(), **what)  # type: ignore[arg-type]
        chosen = replace(options, **{"start": False, **changes})  # type: ignore[arg-type]
        print(f"measuring {setting.mb:g} MB x {setting.clients} ...", file=sys.stderr, flush=True)
        return repeated(repeat, lambda: measure(setting, chosen))

    start = case(mb=1, clients=2, start=True, only_start=True)
    small, middle, large = case(mb=1), case(bare=True), case(mb=100)
    many, few = case(clients=32, rounds=5), case(clients=2)
    number, rss = _number, "coordinator_peak_rss_mb"
    cases = (("1 MB x 8", small, 0.15, 150), ("25 MB x 8", middle, 1.2, 260), ("100 MB x 8", large, 5.5, 450))
    rows = [Row("start to the end of round 3, 2 clients, 1 MB", (3.0, "s"), number(start, THIRD))]
    for name, found, seconds, memory in cases:
        rows.append(Row(f"{name}, median round", (seconds, "s"), number(found, "median_round_seconds")))
        rows.append(Row(f"{name}, coordinator RSS", (memory, "MB"), number(found, rss)))
    rows += [
        Row("25 MB x 8, round over the bytes moved bare", (2.0, "x"), number(middle, "ratio")),
        Row("25 MB, coordinator RSS, 32 clients over 2", (1.3, "x"), number(many, rss) / number(few, rss)),
        Row("25 MB x 8, bytes over payload", (1.05, "x"), number(middle, "bytes_over_payload")),
        Row("25 MB x 8, client RSS over the model", (4.0, "x"), number(middle, "client_peak_rss_mb") / 25),
    ]
    return markdown(rows)


def _number(found: dict[str, object], name: str) -> float:
    return float(str(found[name]))


def own_network() -> None:
    """Go on in a network of our own, if we may have one."""
    if OWN_NETWORK in os.environ or os.geteuid() or not shutil.which("unshare") or not shutil.which("ip"):
        return
    enter = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode == 0:
        os.environ[OWN_NETWORK] = "1"
        os.execvp(enter[0], [*enter, sys.executable, *sys.argv])  # noqa: S606


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=25.0, help="size of the model, in units of 10^6 bytes")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--protection", default="sealed")
    parser.add_argument("--bare", action="store_true", help="move the same bytes bare as well")
    parser.add_argument(
        "--against", type=int, metavar="N", help="measure with N clients as well, compare RSS"
    )
    parser.add_argument("--start", action="store_true", help="only the start of all processes to round 3")
    parser.add_argument("--no-start", action="store_true", help="leave the start out")
    parser.add_argument("--table", action="store_true", help="every row of the goals, as markdown")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the folders are made")  # noqa: S108
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # through every `with`: no process is left behind


def main() -> None:
    given = arguments()
    own_network()
    signal.signal(signal.SIGTERM, leave)
    print(f"files in {given.folder} ({filesystem(given.folder)})", file=sys.stderr)
    start = given.start or not given.no_start
    options = Options(given.folder, bare=given.bare, start=start, only_start=given.start)
    if given.table:
        print(whole_table(options, given.repeat))
        return
    setting = Setting(given.mb, given.clients, given.rounds, given.protection)
    document = repeated(given.repeat, lambda: measure(setting, options))
    if given.against:
        other = repeated(given.repeat, lambda: measure(replace(setting, clients=given.against), options))
        rss = "coordinator_peak_rss_mb"
        document |= {"against": other, "rss_ratio": round(_number(document, rss) / _number(other, rss), 3)}
    if given.json:
        print(json.dumps(document))
    else:
        for name, value in document.items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
