"""Tells of work that moves: every time to the site's screen, once a second to the coordinator."""

from collections.abc import Callable
from itertools import count

from unisono.base.clock import Clock
from unisono.base.errors import Unavailable
from unisono.client.session import Attempt, Pace, Task

from . import notices
from .link import Link
from .notices import Notice
from .status import CoordinatorFault, HelloFirst
from .trainer_process import Moved

Show = Callable[[Notice], None]
Told = Callable[[int, int], None]  # how much is done, of how much


class Reporter:
    """One site's word about what it does.

    What it reports raises WrongPhase if the attempt is over.  A coordinator that is away does not stop the
    work: `trouble` is told, and the next second says it again.
    """

    def __init__(
        self,
        link: Link,
        clock: Clock,
        show: Show,
        hello: Callable[[], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._link, self._clock, self._show = link, clock, show
        self._hello, self._trouble = hello, trouble
        self._pace = Pace()
        self._rested: Notice | None = None

    def stepped(self, work: Task, what: notices.Step, size: int, began: float) -> None:
        """Show that a step of a round is done."""
        seconds = self._clock.ticks() - began
        self._show(notices.Stepped(work.attempt.run, work.attempt.round, what, size, seconds))

    def shower(self, attempt: Attempt, what: notices.Moving) -> Told:
        """Return what shows a transfer.  An upload needs no report: the coordinator sees it."""
        return lambda done, total: self._show(notices.Moved(attempt.run, attempt.round, what, done, total))

    def of(self, attempt: Attempt, stage: str, what: notices.Moving) -> Told:
        """Return what shows progress, and reports it."""
        self._pace = Pace(self._clock.ticks())
        show = self.shower(attempt, what)

        def moved(done: int, total: int) -> None:
            show(done, total)
            self._report(attempt, (what, done), (stage, done, total))

        return moved

    def of_training(self, work: Task) -> Callable[[Moved], None]:
        """Return the same for what the trainer says: each line is a sign of life, even within one percent."""
        self._pace = Pace(self._clock.ticks())
        attempt, beats = work.attempt, count(1)

        def moved(step: Moved) -> None:
            self._show(notices.Moved(attempt.run, attempt.round, step.stage, step.done, step.total))
            self._report(attempt, (step.stage, next(beats)), ("training", step.done, step.total))

        return moved

    def rests(self, attempt: Attempt, hours: str, until: str) -> None:
        """Show, and report, that a transfer waits for the site's hours."""
        notice = notices.Resting(attempt.run, attempt.round, hours, until)
        if notice != self._rested:  # the coordinator hears it again and again, people once
            self._show(notice)
            self._rested = notice
        self._link.progress(attempt, "resting", 0, 0)

    def _report(self, attempt: Attempt, mark: tuple[str, int], progress: tuple[str, int, int]) -> None:
        """Report progress at most once a second, and only if `mark` is another one than the last time."""
        now = self._clock.ticks()
        if not self._pace.due(*mark, now):
            return
        self._pace = self._pace.told(*mark, now)
        try:
            self._link.progress(attempt, *progress)
        except HelloFirst:
            self._hello()
        except (Unavailable, CoordinatorFault) as error:
            self._trouble(str(error))
