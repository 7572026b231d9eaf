"""A run on a terminal: what happens, for whom we wait, how long still.  Pure: a run in, a picture out."""

from collections import Counter
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unisono.base.units import show_bytes, show_seconds

from .documents import ClientStatus, Run, Status
from .pace import Pace
from .words import measured

_SEALED = ("announced", "collecting", "aggregating")
_SECURE = ("advertising", "sharing", "uploading", "agreeing", "revealing", "opening")
_SPARKS = "▁▂▃▄▅▆▇█"
_SILENT = 10.0  # seconds without progress that are worth a word
_LAST_METRICS = 24  # values in the curve
_LAST_ROUNDS = 8  # that the time left is reckoned from
_MOST_ROWS = 16  # clients with a line of their own
_LONGEST_NAME = 24
_MOVING = ("downloading", "uploading")
_NOTHING: Mapping[str, Pace] = {}
_STATES = {"lost": "gone", "looking": "looking at the plan"}  # other words stand for themselves


def view(run: Run, paces: Mapping[str, Pace] = _NOTHING) -> RenderableType:
    """Draw a run: what happens, then who, then for whom we wait."""
    first = Table.grid(expand=True)
    first.add_column(overflow="ellipsis", no_wrap=True)
    first.add_column(justify="right", no_wrap=True)
    first.add_row(Text(_words(run), style="bold"), _curve(run))
    parts: list[RenderableType] = [first]
    if run.status is not None and not run.ended:
        parts += [
            _steps(run.status),
            _clients(run.status, paces),
            Text(f"  {run.status.sentence or ''}", style="bold"),
        ]
    return Group(*parts)


def head(run: Run) -> Text:
    """Draw the first line alone: which run, how far, how long, how good."""
    return Text(_words(run), style="bold").append(f"   {_curve(run)}", style="not bold")


def _words(run: Run) -> str:
    status = run.status
    parts = [run.id + (f" {run.task}" if run.task else ""), run.protection or "-"]
    if status is not None:
        parts.append(f"round {status.round} of {status.rounds}")
        parts.append(show_seconds(status.seconds) + _left(run, status))
    if run.ended:
        parts.append(run.state)
    return " · ".join(parts)


def _left(run: Run, status: Status) -> str:
    """Reckon from the last rounds: the first ones wait for people, and have caches to fill."""
    recent = [r.seconds for r in run.rounds[-_LAST_ROUNDS:] if r.seconds is not None]
    to_do = status.rounds - status.round + 1
    if not recent or status.stage != "in_round" or to_do < 1:
        return ""
    return f", about {show_seconds(sum(recent) / len(recent) * to_do)} left"


def _curve(run: Run) -> str:
    """Draw the metric that people look at: the first that is not the loss, else the loss."""
    measures = [r.metrics for r in run.rounds if r.metrics]
    if not measures:
        return ""
    name = min(measures[-1], key=lambda n: (n == "loss", n), default="")
    values = [m[name] for m in measures if name in m][-_LAST_METRICS:]
    low, high = min(values, default=0.0), max(values, default=0.0)
    spread = high - low or 1.0
    sparks = "".join(_SPARKS[round((v - low) / spread * (len(_SPARKS) - 1))] for v in values)
    return f"{name} " + " ".join(f"{v:.3g}" for v in values[-3:]) + f" {sparks}"


def _steps(status: Status) -> Text:
    """Draw the round's phases: done, under way, to come."""
    if status.stage != "in_round":
        return Text(f"  {status.stage}")
    again = f" (attempt {status.attempt})" if status.attempt > 1 else ""
    name = "closing evaluation" if status.what == "evaluate" else f"round {status.round}"
    line = Text(f"  {name}{again}   ")
    phases = next((known for known in (_SEALED, _SECURE) if status.phase in known), (status.phase,))
    at = phases.index(status.phase)
    for index, phase in enumerate(phases):
        mark, style = (" ✓", "green") if index < at else (" ▶", "bold cyan") if index == at else ("", "dim")
        line.append(f"{phase}{mark}   ", style=style)
    return line


def _clients(status: Status, paces: Mapping[str, Pace]) -> RenderableType:
    """Draw a line for each client; of very many those first who are waited for."""
    shown = status.clients
    if len(shown) > _MOST_ROWS:
        shown = tuple(sorted(shown, key=_interest))[: _MOST_ROWS - 1]
    table = Table.grid(padding=(0, 2))
    names = max((len(client.name) for client in shown), default=0)  # on a narrow terminal these stay
    for width in (min(names, _LONGEST_NAME) + 2, None, None, None):
        table.add_column(no_wrap=True, min_width=width)
    for client in shown:
        what = Text(_what(client), style=_style(client))
        table.add_row(f"  {client.name}", what, _bar(client), _amount(client, paces.get(client.name)))
    if len(shown) == len(status.clients):
        return table
    rest = Counter(_what(client) for client in status.clients if client not in shown)
    words = ", ".join(f"{count} {what}" for what, count in rest.most_common())
    return Group(table, Text(f"  and {len(status.clients) - len(shown)} others: {words}", style="dim"))


def _interest(client: ClientStatus) -> tuple[int, float]:
    """Order: who holds the round up, then who works, then who is done."""
    done = client.state in ("uploaded", "declined")
    return 2 if done else 0 if client.silent_seconds >= _SILENT else 1, -client.silent_seconds


def _what(client: ClientStatus) -> str:
    if client.state == "working" and client.stage:
        return client.stage
    return _STATES.get(client.state, client.state)


def _style(client: ClientStatus) -> str:
    match client.state:
        case "uploaded":
            return "green"
        case "lost" | "failed" | "declined":
            return "red"
        case _:
            return ""


def _bar(client: ClientStatus) -> RenderableType:
    if client.state != "working" or not client.total:
        return ""
    style = "green" if client.done >= client.total else "cyan"
    return ProgressBar(
        total=client.total, completed=client.done, width=20, complete_style=style, finished_style=style
    )


def _amount(client: ClientStatus, pace: Pace | None) -> str:
    """Say how far, how fast, how long still; how long nothing was heard; what the site's own limits do."""
    parts = []
    if client.state == "working" and client.total:
        moved = client.stage in _MOVING
        parts.append(_of(client.done, client.total) if moved else f"{100 * client.done / client.total:.0f} %")
        if pace is not None:
            parts += [f"{show_bytes(pace.rate)}/s"] if moved else []
            parts += [f"{show_seconds(pace.left)} left"] if client.done < client.total else []
    if client.silent_seconds >= _SILENT:
        parts.append(f"silent for {show_seconds(client.silent_seconds)}")
    return "   ".join((*parts, client.note) if client.note else parts)


def _of(done: int, total: int) -> str:
    """Write "6.2 of 10.4 MB", with one unit where both have the same."""
    have, whole = show_bytes(done), show_bytes(total)
    number, _, unit = have.partition(" ")
    return f"{number if unit == whole.partition(' ')[2] else have} of {whole}"


def closing(run: Run) -> str:
    """Say in plain lines how a run ended and what to do next."""
    best = measured(run.rounds[-1].metrics) if run.rounds else ""
    match run.state:
        case "finished":
            return (
                f"{run.id} finished: {run.published} rounds in {show_seconds(run.seconds)}   {best}\n"
                f"  next: unisono model pull {run.id} -o model.safetensors"
            )
        case _:
            said = _why(run)
            kept = (
                f"\n  the model of round {run.rounds[-1].round} is safe: unisono model pull {run.id}"
                f"\n  go on from there: unisono run start PLAN --from {run.id}"
                if run.rounds
                else ""
            )
            return f"{run.id} {said}{kept}"


def _why(run: Run) -> str:
    """Say how it ended and why; a reason that says itself that the run was stopped needs no repeating."""
    reason = run.reason or "no reason given"
    return reason if reason.startswith(run.state) else f"{run.state}: {reason}"
