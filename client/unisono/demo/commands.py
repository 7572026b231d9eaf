"""`unisono demo`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.cli.options import Json
from unisono.cli.output import note, print_json

if TYPE_CHECKING:
    from unisono.plan import Plan

    from .folder import Folder
    from .screen import Screen
    from .stage import Ended


_MOST = 32  # hospitals: the 569 patients, divided further, leave one with a single kind of sample


def demo(
    clients: Annotated[int, typer.Option(min=1, max=_MOST, help="How many hospitals take part.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How many rounds they train.")] = 10,
    protection: Annotated[str, typer.Option(help="How updates are protected.")] = "secagg",
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="Folder to make; that of an earlier demo is replaced."),
    ] = Path("unisono-demo"),
    as_json: Json = False,
) -> None:
    """Train a real model on real data in a federation on this machine, and compare.

    A coordinator and the clients run as processes of their own, joined with one-time tokens over mutual TLS;
    each client has only its own part of the Wisconsin breast cancer data.
    """
    from unisono.plan import parse

    from .folder import Folder
    from .screen import screen
    from .stage import plan_text, summary

    text = plan_text(clients, rounds, protection)
    plan = parse(text.encode(), "the demo's plan")  # refused before there is a folder
    folder = Folder.fresh(directory)
    folder.plan.write_text(text, encoding="utf-8")
    with interrupted_by(signal.SIGTERM, signal.SIGHUP), screen(as_json) as shown:
        ended = play(folder, shown, clients, plan)
    if as_json:
        baselines = ended.baselines.model_dump(mode="json")
        print_json(ended.document | {"final": ended.final} | baselines | {"model": str(ended.model)})
    else:
        for line in summary(ended, directory / ended.model.name):
            print(line)


def play(folder: "Folder", shown: "Screen", clients: int, plan: "Plan") -> "Ended":
    """Play it; show the log of the child that failed."""
    from .children import Children, Failed
    from .stage import Stage

    try:
        with Children(folder.logs) as children:
            return Stage(folder, children, shown, clients).play(plan)
    except Failed as failed:
        note(failed.tail)
        raise


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Treat these signals as Ctrl-C while inside, so that children are ended before we are."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"interrupted by {signal.Signals(number).name}")

    before = [(number, signal.signal(number, interrupt)) for number in signals]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
