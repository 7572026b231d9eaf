"""The child process that runs the user's task: started warm, fed with JSON lines, ended when it hangs.

It is a process group of its own, so that its data loaders end with it and Ctrl-C in a terminal reaches only
us.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unisono.base.clock import Clock
from unisono.base.errors import Error
from unisono.client.trainer.asking import environment

from .halt import Halt

COMMAND = (sys.executable, "-m", "unisono.client.trainer")
MAX_LINE = 1 << 22  # a manifest is the longest thing it says
_READ = 1 << 16
GRACE = 5.0  # seconds between the end of its words and its end
TEXTS = {
    "no_progress": "the task made no progress",
    "killed": "the training process was killed",
    "task_error": "the training process ended",
}


class TaskFailure(Error):
    """The task could not do it.

    `failure` and the message are ours and may travel; `detail` is the user code's.
    """

    code = "task_failed"

    def __init__(self, failure: str, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.failure, self.detail = failure, detail


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", protected_namespaces=())


class Opened(_Reply):
    """The task is loaded."""

    imports_rss_mb: float = 0.0


class Described(_Reply):
    """The model of the plan's seed lies where it was wanted."""

    manifest: str
    model: str
    bytes: int


class Finished(_Reply):
    """The update lies where it was wanted, durable."""

    sha256: str
    bytes: int


class Moved(_Reply):
    """Work goes on."""

    stage: Literal["training", "evaluating", "writing"]
    done: int
    total: int


class Broken(_Reply):
    """The task could not do it."""

    code: str
    text: str
    detail: str = ""


class _Line(_Reply):
    opened: Opened | None = None
    described: Described | None = None
    done: Finished | None = None
    progress: Moved | None = None
    failed: Broken | None = None


Answer = Opened | Described | Finished
Progress = Callable[[Moved], None]


class TrainerProcess:
    """At most one child.  It is started when needed and lives until it fails, hangs or is stopped."""

    def __init__(
        self, log: Path, idle_seconds: float, clock: Clock, halt: Halt, command: Sequence[str] = COMMAND
    ) -> None:
        self._log, self._idle, self._clock, self._halt, self._command = (
            log,
            idle_seconds,
            clock,
            halt,
            command,
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._unread = bytearray()

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the child, unless it is there.  It imports while we say hello."""
        if self.alive:
            return
        self.stop()
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own interpreter
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                process_group=0,
            )

    def ask(self, request: Mapping[str, object], progress: Progress) -> Answer:
        """Send a request and return its answer.  What `progress` raises ends the child and passes.

        Raises TaskFailure; Halted if the process shall end.
        """
        self.start()
        try:
            answer = self._answer(request, progress)
        except BaseException:
            self.stop()  # it is gone, or in the middle of something that nobody waits for
            raise
        if isinstance(answer, Broken):
            if answer.code == "out_of_memory":
                self.stop()  # a fresh process has its memory back
            raise TaskFailure(answer.code, answer.text, answer.detail)
        return answer

    def _answer(self, request: Mapping[str, object], progress: Progress) -> Answer | Broken:
        self._send(request)
        while True:
            line = self._line()
            if line.progress is not None:
                progress(line.progress)
            answer = line.opened or line.described or line.done or line.failed
            if answer is not None:
                return answer

    def _send(self, request: Mapping[str, object]) -> None:
        child = self._child
        if child is None or child.stdin is None:
            raise self._ended()
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _line(self) -> _Line:
        """Return the next line the child says; blank noise cannot be: it has no other way to this pipe."""
        deadline = self._clock.ticks() + self._idle
        while (end := self._unread.find(b"\n")) < 0:
            if len(self._unread) > MAX_LINE:
                raise TaskFailure(
                    "trainer_fault", "the training process broke its protocol", "a line without end"
                )
            self._unread += self._read(deadline)
        raw = bytes(self._unread[:end])
        del self._unread[: end + 1]
        try:
            return _Line.model_validate_json(raw)
        except ValidationError:
            raise TaskFailure(
                "trainer_fault", "the training process broke its protocol", repr(raw[:200])
            ) from None

    def _read(self, deadline: float) -> bytes:
        """Return what comes next.  Raises TaskFailure at the deadline or the child's end, Halted if asked."""
        child = self._child
        if child is None or child.stdout is None:
            raise self._ended()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            selector.register(self._halt.wake, selectors.EVENT_READ)
            ready = selector.select(max(0.0, deadline - self._clock.ticks()))
        self._halt.check()
        if not ready:
            seconds = f"{self._idle:g}"
            raise TaskFailure("no_progress", f"{TEXTS['no_progress']} for {seconds} s and was ended")
        data = os.read(child.stdout.fileno(), _READ)
        if not data:
            raise self._ended()
        return data

    def _ended(self) -> TaskFailure:
        """Return what the child's end means."""
        code = 0
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):  # it closed the pipe and lives on: it is ended
                code = self._child.wait(GRACE)
        self.stop()
        if code < 0:
            name = signal.Signals(-code).name
            return TaskFailure("killed", f"{TEXTS['killed']} ({name}; out of memory?)")
        return TaskFailure(
            "task_error", f"{TEXTS['task_error']} with exit code {code}; see trainer.log there"
        )

    def stop(self) -> None:
        """End the child and all it started."""
        child, self._child = self._child, None
        self._unread.clear()
        if child is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        child.wait()
