"""A run as lines: one stable, greppable line per event, for pipes and logs.  Pure.

2026-11-21T10:04:11Z r-0007 round=4 phase=collecting event=uploaded client=hospital-a survivors=1/4
"""

import json
import re

from .documents import Event, Run
from .words import stamp

_LEFT = re.compile(r",? ?\b[\d.]+ [smh](?: \d+ [sm])? left")
_TOLD = {"metrics_known", "model_kept"}  # what "aggregated" and "round_published" say too, with their round
_PLAIN = re.compile(r"[^\s\"=]+")


class EventLines:
    """Turns the documents of a watched run into lines; an event sent again is not repeated."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._sentence = ""

    def take(self, run: Run, now: float) -> list[str]:
        """Return the lines that `run` adds; `now`, wall seconds, dates what has no time of its own."""
        news = [event for event in run.events if self._is_new(event)]
        lines = [event_line(run, event) for event in news if event.event not in _TOLD]
        sentence = (run.status.sentence or "") if run.status else ""
        skeleton = _LEFT.sub("", sentence)  # "41 s left" alone is no news
        if skeleton and skeleton != self._sentence and not run.ended:
            lines.append(
                _line(run, now, run.status.round if run.status else 0, {"event": "waits", "for": sentence})
            )
        self._sentence = skeleton
        if run.ended:
            lines.append(end_line(run, now))
        return lines

    def _is_new(self, event: Event) -> bool:
        key = event.model_dump_json() if event.seq is None else str(event.seq)
        fresh = key not in self._seen
        self._seen.add(key)
        return fresh


def event_line(run: Run, event: Event) -> str:
    """Write one event."""
    status = run.status
    number = event.round if event.round is not None else status.round if status else 0
    fields: dict[str, object] = {"event": event.event}
    if event.client:
        fields["client"] = event.client
    scalars = {k: v for k, v in event.details.items() if isinstance(v, str | int | float | bool)}
    return _line(run, event.wall, number, {**fields, **scalars, **_metrics(event)})


def _metrics(event: Event) -> dict[str, object]:
    """Return the metrics of an event as fields of their own: loss=0.412."""
    found = event.details.get("metrics")
    pairs = (
        [pair for pair in found if isinstance(pair, list) and len(pair) == 2]
        if isinstance(found, list)
        else []
    )
    return {str(name): value for name, value in pairs if isinstance(value, int | float)}


def end_line(run: Run, now: float) -> str:
    """Write the last line of a run."""
    fields: dict[str, object] = {"event": "ended", "state": run.state}
    if run.reason:
        fields["reason"] = run.reason
    if run.model_sha256:
        fields["model"] = run.model_sha256
    return _line(run, now, run.published, fields)


def _line(run: Run, wall: float, number: int, fields: dict[str, object]) -> str:
    status = run.status
    phase = (status.phase or status.stage) if status else run.state
    known: dict[str, object] = {"round": number, "phase": phase, **fields}
    return f"{stamp(wall)} {run.id} " + " ".join(f"{key}={_value(value)}" for key, value in known.items())


def _value(value: object) -> str:
    """Write a value so that it stays one word, or one quoted string."""
    match value:
        case bool():
            text = json.dumps(value)
        case float():
            text = f"{value:.6g}"
        case _:
            text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
