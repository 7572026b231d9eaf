"""What a person at the site sees: on a terminal, lines and bars; in a pipe, one line an event."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from unisono.base.clock import Clock
from unisono.base.units import show_bytes, show_seconds

from .notices import (
    CannotReach,
    ClocksDiffer,
    Connected,
    Moved,
    Notice,
    PlanAccepted,
    PlanDeclined,
    PlanWaits,
    ReceiptRefused,
    Refusal,
    Renewed,
    Resting,
    RosterPinned,
    RoundOver,
    RunOver,
    SatOut,
    Stepped,
    WorkFailed,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

BAR_AFTER = 1.0  # seconds that a step lasts before it gets a bar


class Lines:
    """For a pipe: time, event, then key=value; a step that moves says nothing until it is done."""

    def __init__(self, clock: Clock, out: TextIO) -> None:
        self._clock, self._out = clock, out
        self._last: Notice | None = None

    def __call__(self, notice: Notice) -> None:
        if isinstance(notice, Moved) or notice == self._last:
            return
        if isinstance(notice, Connected) and not isinstance(self._last, CannotReach | None):
            return  # said hello again, with a new certificate
        self._last = notice
        when = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = " ".join(
            f"{key}={_value(value)}" for key, value in asdict(notice).items() if key != "detail"
        )
        print(f"{when} event={_snake(type(notice).__name__)} {fields}", file=self._out, flush=True)

    def close(self) -> None:
        self._out.flush()


class Terminal:
    """For people: quiet when all is well; bars vanish and leave one line."""

    def __init__(self, name: str, clock: Clock, out: TextIO) -> None:
        self._name, self._clock, self._out = name, clock, out
        self._bars: Progress | None = None
        self._bar: TaskID | None = None
        self._step: tuple[str, int, str] | None = None
        self._since, self._away, self._before = 0.0, True, ""

    def __call__(self, notice: Notice) -> None:
        match notice:
            case Moved():
                self._moved(notice)
                return
            case Connected() if not self._away:
                return
            case Connected():
                self._away = False
            case CannotReach():
                self._away = True
        self._unbar()
        text = sentence(self._name, notice)
        if text != self._before:
            print(text, file=self._out, flush=True)
        self._before = text

    def close(self) -> None:
        self._unbar()

    def _moved(self, notice: Moved) -> None:
        step, now = (notice.run, notice.round, notice.what), self._clock.ticks()
        if step != self._step:
            self._unbar()
            self._step, self._since = step, now
        if self._bars is None and now - self._since >= BAR_AFTER and notice.done < notice.total:
            self._bars = _bars(self._out, bytes_=notice.what in {"download", "upload", "masking"})
            self._bars.start()
            self._bar = self._bars.add_task(f"  round {notice.round:<4} {notice.what}", total=notice.total)
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=notice.done, total=notice.total)

    def _unbar(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._bar, self._step = None, None, None


def _bars(out: TextIO, *, bytes_: bool) -> "Progress":
    from rich import console, progress  # noqa: PLC0415 - only where there is a bar to draw

    text, left = progress.TextColumn("{task.description:<22}"), progress.TimeRemainingColumn()
    columns: list[progress.ProgressColumn] = (
        [progress.DownloadColumn(), progress.BarColumn(), progress.TransferSpeedColumn()]
        if bytes_
        else [progress.BarColumn(), progress.TaskProgressColumn()]
    )
    return progress.Progress(text, *columns, left, console=console.Console(file=out), transient=True)


def sentence(name: str, notice: Notice) -> str:
    """Word a notice for a terminal."""
    match notice:
        case Connected(federation=federation, online=online, enrolled=enrolled):
            count = f"{online} of {enrolled} clients online"
            return f"{name:<12} connected to {federation} ({count}), waiting for a run"
        case CannotReach(reason=reason, again_in=seconds):
            return f"{name:<12} {reason}; trying again in {show_seconds(seconds)}"
        case PlanAccepted(run=run, task=task, rounds=rounds, protection=protection):
            return f"  {run:<10} {task}, {rounds} rounds, {protection}; within your policy"
        case PlanWaits(run=run, plan=plan):
            return f"  {run:<10} waits for somebody here: unisono client plans show {plan[:8]}"
        case PlanDeclined(run=run, reason=reason):
            return f"  {run:<10} declined: {reason}"
        case Stepped(round=number, what=what, bytes=size, seconds=seconds):
            rate = f"{show_bytes(size)}, {show_bytes(size / seconds)}/s" if size and seconds > 0 else ""
            return f"  round {number:<4} {what:<11} {rate or show_seconds(seconds)}"
        case RoundOver(round=number, counted=counted, survivors=survivors):
            return f"  round {number:<4} done        {_counted(counted, survivors)}"
        case RunOver(run=run, state=state, reason=reason):
            return f"  {run:<10} {state}: {reason}" if reason else f"  {run:<10} {state}"
        case _:
            return _trouble(name, notice)


def _counted(counted: bool, survivors: int) -> str:
    if not counted:
        return f"not counted; the model has {survivors} others"
    others = survivors - 1
    return f"counted with {others} other{'' if others == 1 else 's'}"


def _trouble(name: str, notice: Notice) -> str:
    match notice:
        case RosterPinned():
            return _roster(notice)
        case SatOut():
            return _sat_out(notice)
        case WorkFailed(round=number, text=text, detail=detail):
            words = f" ({detail})" if detail else ""
            return f"  round {number:<4} failed      {text}{words}\n  trainer.log has more"
        case ClocksDiffer(seconds=seconds):
            way = "behind" if seconds > 0 else "ahead of"
            return f"{name:<12} this machine's clock is {show_seconds(abs(seconds))} {way} the coordinator's"
        case Renewed(not_after=until):
            when = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d")
            return f"{name:<12} certificate renewed, valid until {when}"
        case Resting(round=number, hours=hours, until=until):
            return f"  round {number:<4} rests       until {until}: [network] hours are {hours}"
        case ReceiptRefused(run=run, round=number, reason=reason):
            which = f"receipt for round {number} of {run}" if run else "key for receipts"
            advice = "unisono client receipts shows what it is about; ask the coordinator's operator"
            return f"{name:<12} the coordinator's {which} does not hold: {reason}\n  {advice}"
        case Refusal(reason=reason):
            return f"{name:<12} the coordinator says: {reason}"
    return f"{name:<12} {type(notice).__name__}"


def _roster(notice: RosterPinned) -> str:
    who = f"  {notice.run:<10} roster of {notice.sites} sites {notice.digest}"
    if notice.compared:
        return who
    advice = "compare it with the other sites, then put it into policy.toml as roster_digest"
    return f"{who}\n  only the coordinator wrote it: {advice}"


def _sat_out(notice: SatOut) -> str:
    text = f"  round {notice.round:<4} not taken   {notice.reason}"
    if not notice.stops_run:
        return text
    advice = f"once you have looked: unisono client plans approve {notice.plan[:8]}"
    return f"{text}\n  {notice.run} is stopped here; {advice}"


def screen(name: str, clock: Clock, out: TextIO = sys.stdout) -> "Lines | Terminal":
    """Return what suits `out`."""
    return Terminal(name, clock, out) if out.isatty() else Lines(clock, out)


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.3f}"
        case str() if not value or any(letter.isspace() or letter in '"=' for letter in value):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
    return str(value)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
