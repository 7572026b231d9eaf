"""How fast each client's work moves, out of documents of a watched run.  Pure: the time is an argument."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from .documents import Run

_WINDOW = 10.0  # seconds that a rate is taken over
_LEAST = 0.5  # seconds before one is told


@dataclass(frozen=True, slots=True)
class Pace:
    """Units a second (bytes of a transfer, else whatever the task counts in), and seconds left at that."""

    rate: float
    left: float


class Paces:
    """Remembers how far each client was; a new step of work begins anew."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[tuple[object, ...], deque[tuple[float, int]]]] = {}

    def take(self, run: Run, now: float) -> Mapping[str, Pace]:
        """Return the pace of everybody who has moved for long enough."""
        status = run.status
        found = {}
        for client in status.clients if status is not None else ():
            if status is None or client.state != "working" or not client.total:
                self._seen.pop(client.name, None)
                continue
            step = (status.round, status.attempt, client.stage, client.total)
            known, marks = self._seen.get(client.name, (step, deque()))
            if known != step or (marks and client.done < marks[-1][1]):
                marks = deque()
            marks.append((now, client.done))
            while len(marks) > 2 and now - marks[0][0] > _WINDOW:
                marks.popleft()
            self._seen[client.name] = step, marks
            first, seconds = marks[0][1], now - marks[0][0]
            if seconds >= _LEAST and client.done > first:
                rate = (client.done - first) / seconds
                found[client.name] = Pace(rate, (client.total - client.done) / rate)
        return found
