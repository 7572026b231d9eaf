"""Runs: start, list, show, watch, stop."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration
from unisono.base.units import show_bytes, show_seconds
from unisono.cli.options import Dir, Json
from unisono.cli.output import note, print_json

from .words import columns, short, stamp

if TYPE_CHECKING:
    from unisono.base.ids import Digest
    from unisono.plan import Plan

    from .connection import AdminClient
    from .documents import Round, Run

_Id = Annotated[
    str,
    typer.Argument(metavar="[ID]", help="The run, as r-0007; the latest if left out.", show_default=False),
]


def start(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a TOML file.")],
    from_run: Annotated[
        str, typer.Option("--from", metavar="RUN", help="Begin with the last model of this run.")
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Watch it until it ends.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Not if there is a run of this plan that goes on or has finished.")
    ] = False,
    directory: Dir = Path(),
    as_json: Json = False,
) -> int:
    """Start a run of a plan.  A first model that the plan names is uploaded before."""
    from unisono.plan import canonical, digest

    from .connection import connect
    from .watching import follow

    wanted = read_plan(plan)
    if from_run and wanted.model.init != "clients":
        raise BadConfiguration(
            f'{plan}: [model] init = "{wanted.model.init}" and --from {from_run} both name a first model\n'
            '  use [model] init = "clients" with --from'
        )
    with connect(directory) as coordinator:
        before = _run_of(coordinator, digest(wanted)) if once else None
        if before is not None:
            note(f"{before.id} is a run of this plan already, {before.state}; no other is started")
            if as_json and not watch:
                print_json({"id": before.id})
            return follow(coordinator, before.id, as_json) if watch else 0
        model = _first_model(coordinator, plan, wanted)
        answer = coordinator.start_run(canonical(wanted), model, from_run)
        run = answer.value.id
        if as_json and not watch:
            print_json(answer.raw)
        elif not as_json:
            print(f"{run} started: {wanted.task}, {wanted.rounds.count} rounds, {wanted.protection.mode}")
            print(
                f"  plan {short(digest(wanted))}" + ("" if watch else f"; watch it: unisono run watch {run}")
            )
        return follow(coordinator, run, as_json) if watch else 0


def _run_of(coordinator: "AdminClient", plan: "Digest") -> "Run | None":
    """Return the latest run of a plan that goes on or has finished."""
    from .paging import all_runs

    for listed in all_runs(coordinator).value.runs:
        if listed.state in ("failed", "stopped"):
            continue
        shown = coordinator.show_run(listed.id).value
        if shown.plan_sha256 == plan:
            return shown
    return None


def list_all(
    every: Annotated[bool, typer.Option("--all", help="Every run, not only the newest.")] = False,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """List the runs, the newest first: of very many the newest, unless there is --all."""
    from .connection import connect
    from .paging import all_runs

    with connect(directory) as coordinator:
        answer = all_runs(coordinator) if every else coordinator.list_runs()
    if as_json:
        print_json(answer.raw)
    elif not answer.value.runs:
        print("no run yet; start one: unisono run start PLAN")
    else:
        rows = (
            (
                r.id,
                r.state,
                r.task,
                f"{r.round} of {r.rounds}",
                stamp(r.started) if r.started else "-",
                r.reason or "",
            )
            for r in answer.value.runs
        )
        print(columns(rows, ("run", "state", "task", "round", "started", "reason")))
        left = (answer.value.runs_total or 0) - len(answer.value.runs)
        if left > 0:
            note(f"{left} earlier runs are not shown: --all")


def show(
    run: _Id = "",
    rounds: Annotated[
        str, typer.Option(metavar="A:B", help="Only these rounds; A: or :B leaves an end open.")
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every round of a long run, not only the last.")
    ] = False,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Show a run round by round: of a long one the last rounds, unless others are asked for."""
    from .connection import connect
    from .paging import span, whole
    from .view import closing, head

    if every and rounds:
        raise BadConfiguration(f"give --all or --rounds {rounds}, not both")
    first, last = span(rounds) if rounds else (1, 0)
    with connect(directory) as coordinator:
        answer = whole(coordinator, run, first, last) if every or rounds else coordinator.show_run(run)
    if as_json:
        print_json(answer.raw)
        return
    shown = answer.value
    print(head(shown).plain.rstrip())
    if shown.rounds:
        print(rounds_table(shown))
    if not rounds and len(shown.rounds) < shown.published:
        note(f"{shown.published - len(shown.rounds)} earlier rounds are not shown: --all, or --rounds A:B")
    if shown.ended and not rounds:
        print(closing(shown))
    elif shown.status is not None and not shown.ended:
        print(f"  {shown.status.sentence or ''}".rstrip())


def watch(run: _Id = "", directory: Dir = Path(), as_json: Json = False) -> int:
    """Watch a run until it ends: live on a terminal, one line per event in a pipe.

    Ctrl-C leaves the run alone.  Exits 0 if the run finished, 1 if it failed or was stopped.
    """
    from .connection import connect
    from .watching import follow

    with connect(directory) as coordinator:
        return follow(coordinator, run, as_json)


def stop(
    run: Annotated[str, typer.Argument(metavar="ID", help="The run, as r-0007.")],
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Stop a run.  Its models stay; another run can go on from its last one."""
    from .connection import connect
    from .view import closing

    with connect(directory) as coordinator:
        answer = coordinator.stop_run(run)
    if as_json:
        print_json(answer.raw)
    else:
        print(closing(answer.value) if answer.value.ended else f"{run} stops")


def read_plan(file: Path) -> "Plan":
    """Read and validate a plan file.  Raises BadConfiguration that names the file."""
    from unisono.plan import parse

    try:
        return parse(file.read_bytes(), str(file))
    except OSError as error:
        raise BadConfiguration(f"{file}: {error.strerror}\n  give the path of a plan, a TOML file") from error


def rounds_table(run: "Run") -> str:
    """Write the committed rounds as columns."""
    names = sorted({name for r in run.rounds for name in r.metrics or {}}, key=lambda n: (n != "loss", n))
    head = ("round", *names, "survivors", "attempts", "time", "in", "out", "model")
    return columns((_round_row(r, names) for r in run.rounds), head)


def _round_row(one: "Round", names: list[str]) -> tuple[object, ...]:
    metrics = one.metrics or {}
    values = (f"{metrics[name]:.4g}" if name in metrics else "-" for name in names)
    cohort, counted = one.sizes
    survivors = f"{counted} of {cohort}" if cohort is not None else "-"
    seconds = show_seconds(one.seconds) if one.seconds is not None else "-"
    sizes = (show_bytes(b) if b is not None else "-" for b in (one.bytes_in, one.bytes_out))
    return (one.round, *values, survivors, one.attempts, seconds, *sizes, short(one.model_sha256))


def _first_model(coordinator: "AdminClient", plan: Path, wanted: "Plan") -> "Digest | None":
    """Upload the model that the plan begins with, if it names one, relative to the plan's folder."""
    if wanted.model.init == "clients":
        return None
    from .progress import bar
    from .transfers import PlainModel, send

    model = PlainModel.of(plan.parent / wanted.model.init)  # refused here, before a byte of it travels
    with bar(f"uploading {model.file.name}", model.size) as moved:
        sha256 = send(coordinator, model, moved)
    note(f"{model.file.name}: {show_bytes(model.size)} uploaded, sha256 {short(sha256)}")
    return sha256
