"""How a blocking call ends early: because the process shall end, or because nothing moves.

The driver runs in one thread and blocks in calls, reads and waits.  The main thread gets the signals and
calls `ask`; whatever blocks then returns, and the driver sees `Halted`.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unisono.base.errors import Error


class Halted(Error):
    """The process is about to end."""

    code = "halted"


class Halt:
    """Asked once, for good.  Threads may ask and wait at the same time."""

    def __init__(self) -> None:
        self._asked, self._lock = threading.Event(), threading.Lock()
        self._cancels: list[Callable[[], object]] = []
        self.wake, self._write = os.pipe()  # readable once asked: for selectors

    def ask(self) -> None:
        """End every wait, now and from now on."""
        with self._lock:
            first = not self._asked.is_set()
            self._asked.set()
            cancels = list(self._cancels)
        if first:
            os.write(self._write, b"!")
        for cancel in cancels:
            cancel()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def check(self) -> None:
        """Raise Halted if asked."""
        if self.asked:
            raise Halted("interrupted")

    def wait(self, seconds: float) -> None:
        """Sleep.  Raises Halted as soon as asked."""
        self._asked.wait(seconds)
        self.check()

    def waited(self, seconds: float) -> bool:
        """Sleep; return at once, and True, when asked."""
        return self._asked.wait(seconds)

    @contextmanager
    def cancelling(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Call `cancel` if asked while the body runs."""
        with self._lock:
            self._cancels.append(cancel)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._cancels.remove(cancel)

    def close(self) -> None:
        os.close(self.wake)
        os.close(self._write)


@contextmanager
def stall_guard(cancel: Callable[[], object], seconds: float) -> Iterator[Callable[[], None]]:
    """Call `cancel` when `seconds` pass without a call of what is yielded.

    A transfer has no deadline as a whole (a slow link is not a failure), but each step of it has.
    """
    moved, over = threading.Event(), threading.Event()

    def watch() -> None:
        while moved.wait(seconds):
            moved.clear()
            if over.is_set():
                return
        cancel()

    thread = threading.Thread(target=watch, name="stall-guard", daemon=True)
    thread.start()
    try:
        yield moved.set
    finally:
        over.set()
        moved.set()
        thread.join()
