"""A run on a terminal: what happens, for whom we wait, how long still.  Pure: a run in, a picture out."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unisono.base.units import show_bytes, show_seconds

from .documents import ClientStatus, Run, Status
from .words import measured

_PHASES = ("announced", "collecting", "aggregating")
_SPARKS = "▁▂▃▄▅▆▇█"
_SILENT = 10.0  # seconds without progress that are worth a word
_LAST_METRICS = 8


def view(run: Run) -> RenderableType:
    """Draw a run."""
    parts: list[RenderableType] = [head(run)]
    if run.status is not None and not run.ended:
        parts += [
            _steps(run.status),
            _clients(run.status),
            Text(f"  {run.status.sentence or ''}", style="bold"),
        ]
    return Group(*parts)


def head(run: Run) -> Text:
    """Draw the first line: which run, how far, how long, how good."""
    status = run.status
    parts = [run.id + (f" {run.task}" if run.task else ""), run.protection or "-"]
    if status is not None:
        parts.append(f"round {status.round} of {status.rounds}")
        parts.append(show_seconds(status.seconds) + _left(status))
    if run.ended:
        parts.append(run.state)
    return Text(" · ".join(parts), style="bold").append(f"   {_curve(run)}", style="not bold")


def _left(status: Status) -> str:
    done = status.round - 1
    if done < 1 or status.stage != "in_round" or status.rounds <= done:
        return ""
    return f", about {show_seconds(status.seconds / done * (status.rounds - done))} left"


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
    at = _PHASES.index(status.phase) if status.phase in _PHASES else -1
    for index, phase in enumerate(_PHASES):
        mark, style = (" ✓", "green") if index < at else (" ▶", "bold cyan") if index == at else ("", "dim")
        line.append(f"{phase}{mark}   ", style=style)
    return line


def _clients(status: Status) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(4):
        table.add_column()
    for client in status.clients:
        table.add_row(
            f"  {client.name}", Text(client.state, style=_style(client)), _bar(client), _amount(client)
        )
    return table


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
        return Text(client.stage)
    return ProgressBar(total=client.total, completed=client.done, width=20)


def _amount(client: ClientStatus) -> str:
    silent = f"silent for {show_seconds(client.silent_seconds)}" if client.silent_seconds >= _SILENT else ""
    if client.state != "working" or not client.total:
        return silent
    share = f"{100 * client.done / client.total:.0f} %"
    moved = client.stage in ("downloading", "uploading")
    of = f"{show_bytes(client.done)} of {show_bytes(client.total)}" if moved else share
    return "  ".join(part for part in (f"{client.stage} {of}", silent) if part)


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
