"""Hours of the day, as people write them: "20:00-06:00".  Pure: the time of day is an argument."""

import re
from dataclasses import dataclass
from typing import Self

from .errors import BadConfiguration

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Hours:
    """A span of every day, in minutes since midnight; the end is not included, and may be on the next day."""

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "20:00-06:00".  Raises BadConfiguration; a span from a time to itself is none."""
        found = _SPAN.fullmatch(text)
        if found is None or text[:5] == text[6:]:
            raise BadConfiguration(f'must be a span such as "20:00-06:00", not "{text:.40}"')
        a, b, c, d = (int(part) for part in found.groups())
        return cls(60 * a + b, 60 * c + d)

    def holds(self, minute: float) -> bool:
        """Tell whether a minute of the day is inside."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def opens_in(self, second: float) -> float:
        """Return the seconds from a second of the day until the span begins; 0 inside of it."""
        return 0.0 if self.holds(second / 60) else (60.0 * self.start - second) % DAY

    def __str__(self) -> str:
        return f"{_clock(self.start)}-{_clock(self.end)}"

    @property
    def words(self) -> str:
        """Return "from 20:00 to 06:00"."""
        return f"from {_clock(self.start)} to {_clock(self.end)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
