"""Follows a run to its end: live on a terminal, lines in a pipe, documents for scripts.

A coordinator that restarts in the middle is no reason to stop watching: the stream is opened again until it
has been silent for `_PATIENCE` seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from unisono.base.clock import Clock
from unisono.base.errors import Fault, Unavailable
from unisono.base.system_clock import SystemClock
from unisono.cli.output import note, print_json

from .connection import Answer
from .documents import Run
from .events import EventLines

_PATIENCE = 60.0  # seconds without the coordinator
_PAUSE = 0.5

Show = Callable[[Answer[Run]], None]


class Watched(Protocol):
    """What is asked of the connection."""

    def watch_run(self, run: str) -> Iterator[Answer[Run]]: ...


def follow(coordinator: Watched, run: str, as_json: bool) -> int:
    """Show a run until it ends; return 0 if it finished, else 1 with its reason on stderr."""
    last: Run | None = None
    try:
        with _shown(as_json) as show:
            for answer in documents(coordinator, run, SystemClock(), time.sleep):
                last = answer.value
                show(answer)
    except KeyboardInterrupt:
        name = last.id if last else run or "the run"
        raise KeyboardInterrupt(
            f"{name} goes on; watch it again: unisono run watch {last.id if last else run}"
        ) from None
    if last is None:
        raise Fault("the coordinator sent nothing about the run")
    from .view import closing  # noqa: PLC0415 - rich

    if last.state != "finished" or (sys.stdout.isatty() and not as_json):
        (note if last.state != "finished" else print)(closing(last))
    return 0 if last.state == "finished" else 1


def documents(
    coordinator: Watched, run: str, clock: Clock, sleep: Callable[[float], None]
) -> Iterator[Answer[Run]]:
    """Yield a run's documents until it has ended, over as many streams as it takes.  Raises Unreachable."""
    heard, ended, name = None, False, run
    while not ended:
        try:
            for answer in coordinator.watch_run(name):
                name, heard, ended = answer.value.id, clock.ticks(), answer.value.ended
                yield answer
            if heard is None:
                return
            if not ended:
                sleep(_PAUSE)
        except Unavailable as error:
            if heard is None or clock.ticks() - heard > _PATIENCE:
                raise
            sleep(min(max(_PAUSE, error.retry_after), 5.0))


@contextmanager
def _shown(as_json: bool) -> Iterator[Show]:
    """Yield what shows a document: JSON, the live view, or lines."""
    if as_json:
        yield lambda answer: print_json(answer.raw)
    elif sys.stdout.isatty():
        from rich.live import Live  # noqa: PLC0415 - only a terminal pays for it

        from .pace import Paces  # noqa: PLC0415
        from .view import view  # noqa: PLC0415

        paces, ticks = Paces(), SystemClock().ticks
        with Live(transient=True, refresh_per_second=8) as live:
            yield lambda answer: live.update(view(answer.value, paces.take(answer.value, ticks())))
    else:
        lines, clock = EventLines(), SystemClock()

        def tell(answer: Answer[Run]) -> None:
            for line in lines.take(answer.value, clock.wall()):
                print(line, flush=True)

        yield tell
