"""When progress is worth a call: it moved, and the last word is a second old."""

from dataclasses import dataclass

EVERY = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """What was last reported, and when."""

    at: float = float("-inf")
    mark: tuple[str, int] = ("", -1)

    def due(self, stage: str, done: int, now: float) -> bool:
        """Tell whether (stage, done) is to be reported at `now`.  Standing still is no progress."""
        return (stage, done) != self.mark and now - self.at >= EVERY

    def told(self, stage: str, done: int, now: float) -> "Pace":
        return Pace(now, (stage, done))
