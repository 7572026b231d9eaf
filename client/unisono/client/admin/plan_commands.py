"""`unisono plan check`: is this plan right, what will it cost, who would take part."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration, Unavailable
from unisono.base.units import bytes_per_second, show_bytes, show_seconds
from unisono.cli.options import Dir, Json
from unisono.cli.output import note, print_json

from .promises import packed, packing_words, promise_words, promised, terms_for
from .run_commands import read_plan
from .words import short

if TYPE_CHECKING:
    from unisono.plan import Plan
    from unisono.plan.forecast import Forecast, Sizes

    from .documents import PlanCheck

_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class Known:
    """What a forecast rests on: a model's sizes and where they come from, and how many clients."""

    sizes: "Sizes | None"
    source: str
    clients: int


def check(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a TOML file.")],
    clients: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Forecast for so many clients.", show_default=False)
    ] = None,
    link: Annotated[str, typer.Option(help="A client's link, as 20Mbit or 2MB/s.")] = "20Mbit",
    mb: Annotated[
        float | None, typer.Option(min=0.000001, help="Size of the model in MB, where nothing else tells it.")
    ] = None,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Validate a plan and forecast bytes, disk, memory and seconds of a round; nothing is started.

    With an operator's folder in --dir the coordinator is asked, too: which connected clients would take part,
    and why others would not.
    """
    from unisono.plan import canonical, digest

    wanted, rate = read_plan(plan), bytes_per_second(link)
    asked = _ask(directory, canonical(wanted))
    known = _known(plan, wanted, asked, clients, mb)
    terms = terms_for(wanted, known.clients)
    cost = _forecast(wanted, known, rate) if known.sizes else None
    if as_json:
        told = {"plan_sha256": digest(wanted), "task": wanted.task, "link_bytes_per_second": rate}
        promise = {"protection": promised(wanted, terms), "codec": packed(wanted, known.clients)}
        forecast = {"forecast": asdict(cost) if cost else None, "model_from": known.source}
        people = [c.model_dump() for c in asked.clients] if asked else None
        print_json({**told, **promise, **forecast, "clients": people})
        return
    print(f"{plan} is valid: {_summary(wanted)}")
    rounds = wanted.rounds
    print(
        f"  plan      {short(digest(wanted))}: {rounds.count} rounds, at most {rounds.attempts} attempts each"
    )
    print(promise_words(terms))
    print(packing_words(wanted, known.clients))
    print(_cost_words(cost, known, link) if cost else f"  cost      unknown: {known.source}")
    if asked:
        print(_acceptance(asked, wanted))


def _summary(plan: "Plan") -> str:
    return f'task "{plan.task}", {plan.aggregation.strategy}, {plan.protection.mode}'


def _ask(directory: Path, plan: bytes) -> "PlanCheck | None":
    """Ask the coordinator, where there is a folder to ask with and an answer; a forecast needs neither."""
    if not any((folder / "admin.toml").is_file() for folder in (directory / "admin", directory)):
        return None
    from .connection import connect

    try:
        with connect(directory) as coordinator:
            return coordinator.check_plan(plan).value
    except Unavailable as error:
        note(f"who would take part is unknown: {error}")
        return None


def _known(
    plan: Path, wanted: "Plan", asked: "PlanCheck | None", clients: int | None, mb: float | None
) -> Known:
    sizes, source = _sizes(plan, wanted, asked, mb)
    accepting = sum(c.accepts for c in asked.clients) if asked else 0
    return Known(sizes, source, clients or wanted.cohort.size or max(accepting, wanted.needed))


def _sizes(
    plan: Path, wanted: "Plan", asked: "PlanCheck | None", mb: float | None
) -> "tuple[Sizes | None, str]":
    """Return the model's sizes and what told them: the flag, the plan's file, or an earlier run."""
    from unisono.plan.forecast import Sizes

    if mb is not None:
        size = round(mb * 1e6)
        return Sizes(size // _FLOAT32, size), f"--mb {mb:g}, all of it float32"
    if wanted.model.init != "clients":
        return _sizes_of(plan.parent / wanted.model.init), wanted.model.init
    if asked and asked.model_bytes:
        coordinates = asked.coordinates or asked.model_bytes // _FLOAT32
        return Sizes(coordinates, asked.model_bytes), f'the last run of task "{wanted.task}"'
    return None, (
        'the clients make the model ([model] init = "clients") and no run of the task tells its size\n'
        "            give it: --mb 25, or name a safetensors file in [model] init"
    )


def _sizes_of(file: Path) -> "Sizes":
    from unisono.plan.forecast import Sizes

    from .transfers import PlainModel

    model = PlainModel.of(file)
    return Sizes(model.travelling, model.size)


def _forecast(plan: "Plan", known: Known, rate: float) -> "Forecast":
    from unisono.plan.forecast import forecast
    from unisono.strategies import load

    if known.sizes is None:
        raise BadConfiguration(f"the model's size is unknown: {known.source}")
    strategy = load(plan.aggregation.strategy)
    parameters = strategy.Parameters.model_validate(plan.aggregation.parameters)
    return forecast(plan, known.sizes, known.clients, rate, len(strategy.state(parameters)))


def _cost_words(cost: "Forecast", known: Known, link: str) -> str:
    total, many = cost.round_bytes_in + cost.round_bytes_out, "s" if cost.clients > 1 else ""
    down, up, seconds = show_bytes(cost.bytes_down), show_bytes(cost.bytes_up), show_seconds(cost.seconds)
    disk, memory = show_bytes(cost.coordinator_disk), show_bytes(cost.coordinator_memory)
    own_disk, own_memory = show_bytes(cost.client_disk), show_bytes(cost.client_memory)
    return (
        f"  model     {show_bytes(cost.model)} (from {known.source})\n"
        f"  a client  {down} down and {up} up in a round: {seconds} on {link}, training not counted\n"
        f"            {own_disk} disk, {own_memory} memory beside what Python and PyTorch take\n"
        f"  coordinator with {cost.clients} client{many}: "
        f"{show_bytes(total)} moved in a round, {disk} disk, {memory} memory"
    )


def _acceptance(asked: "PlanCheck", plan: "Plan") -> str:
    if not asked.clients:
        return f"  clients   none is connected; {plan.needed} needed"
    yes = [c.name for c in asked.clients if c.accepts]
    lines = [
        f"  clients   {len(yes)} of {len(asked.clients)} connected would take part, {plan.needed} needed"
    ]
    lines += [f"            {name} yes" for name in yes]
    lines += [f"            {c.name} no: {c.reason}" for c in asked.clients if not c.accepts]
    return "\n".join(lines)
