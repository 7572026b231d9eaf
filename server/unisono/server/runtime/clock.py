"""A run's own clock: it stands still while the coordinator is down, so deadlines survive as what was left."""

from unisono.base.clock import Clock


class RunClock:
    """Seconds of life of one run, continued from what was saved last."""

    def __init__(self, clock: Clock, saved: float) -> None:
        self._clock, self._zero = clock, clock.ticks() - saved

    def now(self) -> float:
        return self._clock.ticks() - self._zero
