"""JSON lines to and from the parent, on the original stdin and stdout.

Standard output then leads to standard error (the parent's trainer.log), at the level of file descriptors, so
that neither `print` nor a C library can put a byte into the protocol.
"""

import json
import os
import queue
import sys
import threading
import time
from typing import TypeAlias

Message: TypeAlias = dict[str, object]

PROGRESS_SECONDS = 0.1
MAX_LINE = 8 << 20  # a request holds a plan and a spec, each far smaller


class Channel:
    """The trainer's end.  The process ends when the parent's end closes, even in the middle of training."""

    def __init__(self) -> None:
        requests, replies = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
        self._requests = open(requests, "rb")  # noqa: SIM115
        self._replies = open(replies, "wb", buffering=0)  # noqa: SIM115
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._said: tuple[str, int, int] = "", 0, 0
        self._next = 0.0

    def listen(self) -> None:
        """Read from now on in a thread of its own: the only way to notice a dead parent while training."""
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def receive(self) -> Message:
        """Return the next request; an empty one for a line that is no JSON object."""
        try:
            found = json.loads(self._waiting.get())
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def reply(self, message: Message) -> None:
        """Send one line, after what user code printed until now has reached the log."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._said = "", 0, 0
        self._send(message)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Tell the parent that something moved; at most ten times a second, but each begin and end.

        In percent: a number of batches would tell how many examples a site has.  Where a total is not known
        (0) it stays 0 %; a line means that something moved even if its percent is that of the last one.
        """
        now, ended = time.monotonic(), done >= total > 0
        if self._said == (stage, done, total) or (self._said[0] == stage and now < self._next and not ended):
            return
        self._said, self._next = (stage, done, total), now + PROGRESS_SECONDS
        percent = max(0, min(100, 100 * done // total)) if total > 0 else 0
        self._send({"progress": {"stage": stage, "done": percent, "total": 100}})

    def _send(self, message: Message) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        view = memoryview(line)
        while view:
            view = view[self._replies.write(view) :]

    def _read(self) -> None:
        while line := self._requests.readline(MAX_LINE):
            self._waiting.put(line)
        os._exit(0)  # nobody is left to answer: not even the exit handlers of user code are waited for
