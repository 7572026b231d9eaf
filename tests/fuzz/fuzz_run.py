"""Run targets under atheris (libFuzzer with coverage of our Python code): `make fuzz SECONDS=60`.

Each target is a process of its own, two at a time.  What it finds is written into `tests/fuzz/corpus/TARGET`,
which every `make test` tries again; what it learned on the way stays in `.fuzz/`, outside of the repository.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.status import Status

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LEARNED = ROOT / ".fuzz"
MEMORY, INPUT_SECONDS = (
    1024,
    10,
)  # MB of a process; for one input (`make test` is stricter)
EVERYTHING = "all"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a target's process said."""

    target: str
    seconds: int
    executions: int
    rss_mb: int
    found: str = ""


def child(name: str, seconds: int, number: int) -> None:
    """Fuzz one target in this process; libFuzzer ends it."""
    atheris = import_module("atheris")  # not in every environment, and without types
    with atheris.instrument_imports(include=["unisono"]):
        from fuzz_targets import WHERE, target_of  # noqa: PLC0415 - under instrumentation

        names = sorted(WHERE) if name == EVERYTHING else [name]
        targets = {each: target_of(each) for each in names}
    learned = LEARNED / name
    learned.mkdir(parents=True, exist_ok=True)
    for place, each in enumerate(names):
        prefix = bytes((place,)) if name == EVERYTHING else b""
        known = [(f"seed-{i}", seed) for i, seed in enumerate(targets[each].seeds())]
        for label, data in [*known, *targets[each].corpus()]:
            (learned / f"{each}-{label}").write_bytes(prefix + data)

    for target in targets.values():  # some build a world for their first input, which is no input's fault
        target(next(iter(target.seeds())))

    def one(data: bytes) -> None:
        try:
            if name != EVERYTHING:
                targets[name](data)
            elif data:
                chosen = targets[names[data[0] % len(names)]]
                chosen(data[1 : 1 + chosen.longest])
        except BaseException:
            traceback.print_exc()  # libFuzzer ends the process without it
            sys.stderr.flush()
            raise

    longest = max(each.longest for each in targets.values())
    artifacts = LEARNED / "found" if name == EVERYTHING else HERE / "corpus" / name
    artifacts.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY}", f"-timeout={INPUT_SECONDS}"]
    more = [
        f"-max_len={longest}",
        f"-seed={number}",
        f"-artifact_prefix={artifacts}/",
        "-print_final_stats=1",
        "-close_fd_mask=1",
    ]
    atheris.Setup([sys.argv[0], *limits, *more, str(learned)], one)
    atheris.Fuzz()


def fuzzed(name: str, seconds: int, number: int) -> Outcome:
    """Run a child; read what libFuzzer counted."""
    limits = ["--seconds", str(seconds), "--seed", str(number)]
    command = [sys.executable, str(Path(__file__).resolve()), "--child", name, *limits]
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - no disk to wait for
    with tempfile.TemporaryDirectory(prefix="unisono-fuzz-", dir=memory) as folder:
        here = {**os.environ, "TMPDIR": folder, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=here)  # noqa: S603, PLW1510
    said = done.stderr
    count = re.search(r"number_of_executed_units:\s+(\d+)", said)
    rss = re.search(r"peak_rss_mb:\s+(\d+)", said)
    found = ""
    if done.returncode:
        where = re.search(r"Test unit written to (\S+)", said)
        lines = [
            line for line in said.splitlines() if re.match(r"\S*(Error|Exception)\b|==.*ERROR|\w+\.\w+", line)
        ]
        found = f"{where[1] if where else 'no file'}: {' '.join(lines[:2])[:300] or said[-300:]}"
    return Outcome(name, seconds, int(count[1]) if count else 0, int(rss[1]) if rss else 0, found)


def _line(outcome: Outcome) -> str:
    verdict = f"FOUND {outcome.found}" if outcome.found else "nothing found"
    many = f"{outcome.executions:>9} executions in {outcome.seconds} s, {outcome.rss_mb} MB"
    return f"  {outcome.target:<20} {many}: {verdict}"


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """On a terminal, say how long still; the line vanishes when all is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Status("", console=Console(stderr=True)) as shown:
        yield lambda text: shown.update(f"  {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "targets", nargs="*", help="names; by default every target by itself; all: one process"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0: another each time")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    sys.path[:0] = [str(HERE), str(ROOT / "tests" / "unit")]
    if asked.child:
        child(asked.child, asked.seconds, asked.seed)
        return 0
    from fuzz_targets import WHERE  # noqa: PLC0415 - the path to it is set above

    names = asked.targets or sorted(WHERE)
    if unknown := set(names) - set(WHERE) - {EVERYTHING}:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(sorted(WHERE))}")
    outcomes = []
    threads = min(2, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, _progress() as say:
        say(f"fuzzing {len(names)} targets, about {asked.seconds * -(-len(names) // threads)} s")
        for outcome in pool.map(lambda name: fuzzed(name, asked.seconds, asked.seed), names):
            outcomes.append(outcome)
            print(_line(outcome), flush=True)
            left = len(names) - len(outcomes)
            say(f"fuzzing, {left} of {len(names)} targets left, {asked.seconds * -(-left // threads)} s")
    print(json.dumps({"targets": [asdict(outcome) for outcome in outcomes]}), flush=True)
    return 1 if any(outcome.found for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
