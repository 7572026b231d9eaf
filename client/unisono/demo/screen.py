"""Where a demo shows what happens: a terminal, a pipe, or nowhere when the result is JSON."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from unisono.client.admin.documents import Run

from .picture import HEAD, round_line

if TYPE_CHECKING:
    from rich.live import Live


class Screen(Protocol):
    """What the stage tells."""

    def doing(self, what: str) -> None:
        """Show what has begun and may take a moment."""
        ...

    def say(self, line: str) -> None:
        """Write a line that stays."""
        ...

    def progress(self, run: Run) -> None:
        """Show that the run has moved."""
        ...


class Silent:
    """For `--json`: stdout belongs to the result."""

    def doing(self, what: str) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def progress(self, run: Run) -> None:
        """Show nothing."""


class Lines:
    """For a pipe: what stays written, and a line a round as soon as its metrics are known."""

    def __init__(self) -> None:
        self._shown = -1  # rounds; -1: not even the head of their table

    def doing(self, what: str) -> None:
        """Show nothing: only what has happened is a line."""

    def say(self, line: str) -> None:
        print(line, flush=True)

    def progress(self, run: Run) -> None:
        for line in self.news(run):
            self.say(line)

    def news(self, run: Run) -> list[str]:
        """Return the lines that `run` adds.  A model is measured in the round after it, or at the end."""
        lines = [HEAD] if self._shown < 0 else []
        self._shown = max(0, self._shown)
        for one in (r for r in run.rounds if r.round > self._shown):
            if not one.metrics and not run.ended:
                break
            lines.append(round_line(one))
            self._shown = one.round
        return lines


class Terminal(Lines):
    """For people: the same lines, and below them what happens now and who is waited for."""

    def __init__(self, live: "Live") -> None:
        super().__init__()
        self._live = live

    def doing(self, what: str) -> None:
        from rich.spinner import Spinner  # noqa: PLC0415

        self._live.update(Spinner("dots", f" {what} ..."))

    def say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def progress(self, run: Run) -> None:
        from unisono.client.admin.view import view  # noqa: PLC0415

        super().progress(run)
        self._live.update(view(run))


@contextmanager
def screen(as_json: bool) -> Iterator[Screen]:
    """Yield the screen for what stdout is; a live picture vanishes at the end."""
    if as_json:
        yield Silent()
    elif not sys.stdout.isatty():
        yield Lines()
    else:
        from rich.live import Live  # noqa: PLC0415 - only a terminal pays for it

        with Live(transient=True, refresh_per_second=12) as live:
            yield Terminal(live)
