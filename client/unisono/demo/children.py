"""The processes of a demo: started quietly, looked after, and ended whatever happens.

Each is the leader of a session of its own, so that Ctrl-C reaches only the demo, which then ends them in
order, trainers included.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from unisono.base.errors import Fault

_COMMAND = (sys.executable, "-m", "unisono.cli")
_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL = 12  # lines of a log that are worth showing
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Child:
    """A process; what it says lies in `log`, unless its output is read through a pipe."""

    name: str
    spelled: str  # as a user types it
    process: subprocess.Popen[str]
    log: Path

    def failed(self) -> "Failed":
        """Return the error that says how it ended."""
        code = self.process.poll() or 0
        how = f"exited with {code}" if code >= 0 else f"was killed by signal {-code}"
        return Failed(
            f"the demo failed: {self.name} {how}\n  {self.spelled}\n  its log: {self.log}", tail(self.log)
        )


class Failed(Fault):
    """A process of the demo failed; `tail` is the end of its log."""

    def __init__(self, message: str, tail: str) -> None:
        super().__init__(message)
        self.tail = tail


class Children:
    """All processes of one demo.  Leaving the context ends them, within `patience` seconds."""

    def __init__(self, logs: Path, patience: float = 5.0) -> None:
        self._logs, self._patience, self._all = logs, patience, list[Child]()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def command(self, name: str, *words: str | Path, piped: bool = False) -> Child:
        """Start `unisono WORDS`."""
        return self._start(name, "unisono", (*_COMMAND, *map(str, words)), piped=piped)

    def module(self, name: str, module: str, *words: str | Path) -> Child:
        """Start `python -m MODULE WORDS`, its output on a pipe."""
        return self._start(name, "python", (sys.executable, "-m", module, *map(str, words)), piped=True)

    def done(self, child: Child, seconds: float = 60.0) -> str:
        """Wait for the end of a child and return what it wrote to its pipe.  Raises Fault if it failed."""
        try:
            said, _ = child.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Fault(f"{child.name} did not end in {seconds:.0f} s: {child.spelled}") from None
        if child.process.returncode:
            raise child.failed()
        return said or ""

    def check(self, living: Sequence[Child]) -> None:
        """Raise Fault if one that should live does not."""
        for child in living:
            if child.process.poll() is not None:
                raise child.failed()

    def end(self) -> None:
        """End what still runs: first politely, the youngest first, then for good."""
        with unhurried():
            self._end()

    def _end(self) -> None:
        running = [child.process for child in reversed(self._all)]
        for process in running:
            if process.poll() is None:
                _signal(process, signal.SIGTERM)
        until = time.monotonic() + self._patience
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            _signal(process, signal.SIGKILL)  # the whole session: also what a child left behind
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._all.clear()

    def _start(self, name: str, program: str, words: Sequence[str], *, piped: bool) -> Child:
        log = self._logs / f"{name.replace(' ', '-')}.log"
        spelled = " ".join((program, *words[3 if program == "unisono" else 1 :]))
        with unhurried(), log.open("ab") as file:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else file,
                stderr=file,
                env=environment(os.environ),
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
            child = Child(name, spelled, process, log)
            self._all.append(child)
        return child


@contextmanager
def unhurried() -> Iterator[None]:
    """Hold signals back, so that no child is started and forgotten, and none is left by half an ending."""
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    ours = [number for number in _INTERRUPTIONS if callable(signal.getsignal(number))]
    before = [(number, signal.signal(number, hold)) for number in ours]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        for late in held:
            signal.raise_signal(late)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return what a child inherits: none of our settings, loopback without a proxy, one thread a process.

    Several processes share few cores here; each with a thread per core would only be in the others' way.
    """
    kept = {name: value for name, value in given.items() if not name.startswith("UNISONO_")}
    return kept | dict.fromkeys(_ONE_THREAD, "1") | {"no_grpc_proxy": "localhost", "PYTHONUNBUFFERED": "1"}


def tail(log: Path) -> str:
    """Return the last lines of a log, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-_TAIL:]) or "    (it wrote nothing)"


def _signal(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
