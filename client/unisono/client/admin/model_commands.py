"""Global models: list, pull.  A client's folder may be used as well as an operator's."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration, NotFound
from unisono.base.units import show_bytes
from unisono.cli.options import Dir, Json
from unisono.cli.output import note, print_json

from .words import columns, measured, short

if TYPE_CHECKING:
    from .documents import Model, Models

_Id = Annotated[
    str,
    typer.Argument(metavar="[ID]", help="The run, as r-0007; the latest if left out.", show_default=False),
]


def list_all(
    run: _Id = "",
    every: Annotated[bool, typer.Option("--all", help="Every model, not only the last.")] = False,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """List the models that the coordinator keeps of a run: of very many the last, unless there is --all."""
    from .connection import connect
    from .paging import all_models

    with connect(directory, ("admin", "client")) as coordinator:
        answer = all_models(coordinator, run) if every else coordinator.list_models(run)
    if as_json:
        print_json(answer.raw)
    elif not answer.value.models:
        print(f"{answer.value.run} has no model yet")
    else:
        head = ("round", "", "size", "sha256", "metrics")
        print(columns((_row(model) for model in answer.value.models), head))
        left = (answer.value.models_total or 0) - len(answer.value.models)
        if left > 0:
            note(f"{left} earlier models are not shown: --all")


def pull(
    run: _Id = "",
    number: Annotated[
        int | None,
        typer.Option("--round", min=0, help="The round whose model is wanted; the last if left out."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")] = Path(
        "model.safetensors"
    ),
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Write a global model as a plain safetensors file, and beside it a card that says where it comes from.

    A pull that was interrupted goes on where it stopped.  The digest is verified; the file appears whole or
    not at all.
    """
    from .card import card
    from .connection import connect
    from .paging import all_models, whole
    from .progress import bar
    from .transfers import receive

    if output.is_dir() or not output.parent.is_dir():
        raise BadConfiguration(
            f"{output}: not a place for a file\n  name a file in a folder that exists: -o FILE"
        )
    with connect(directory, ("admin", "client")) as coordinator:
        models = all_models(coordinator, run).value
        model = choose(models, number)
        operator = coordinator.role == "admin"  # runs are shown to operators only
        shown = whole(coordinator, models.run).value if operator else None
        with bar(f"pulling {output.name}", model.bytes) as moved:
            receive(coordinator, model.sha256, output, moved)
    beside = output.with_suffix(".md")
    beside.write_text(card(output.name, model, models, shown), encoding="utf-8")
    if as_json:
        files = {"model": str(output), "card": str(beside)}
        print_json({"run": models.run, **model.model_dump(exclude={"best", "last"}), **files})
        return
    what = f"{models.run}, round {model.round}, {show_bytes(model.bytes)}   {measured(model.metrics)}"
    print(f"{output}: {what}".rstrip())
    print(f"  sha256 {model.sha256}; {beside.name} says where it comes from")


def choose(models: "Models", number: int | None) -> "Model":
    """Return the model of a round, the last if none is named.  Raises NotFound that lists what there is."""
    if not models.models:
        raise NotFound(
            f"{models.run} has no model yet\n  its first round makes one: unisono run watch {models.run}"
        )
    if number is None:
        return max(models.models, key=lambda m: (m.last, m.round))
    for model in models.models:
        if model.round == number:
            return model
    kept = ", ".join(f"{m.round}{' (best)' if m.best else ''}" for m in models.models)
    raise NotFound(
        f"{models.run} keeps no model of round {number}; kept: {kept}\n  [rounds] keep_models keeps more"
    )


def _row(model: "Model") -> tuple[object, ...]:
    marks = " ".join(word for word, true in (("best", model.best), ("last", model.last)) if true)
    return model.round, marks, show_bytes(model.bytes), short(model.sha256), measured(model.metrics)
