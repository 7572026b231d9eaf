"""A task before it meets a federation, and a model after: `unisono task check`, `unisono predict`.

Both run the user's code in a process of its own, as training does; this process never imports it.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration
from unisono.cli.options import Json
from unisono.cli.output import print_json

if TYPE_CHECKING:
    from unisono.client.trainer.asking import Finding

_TASK_HELP = "The task, as module:Class or path/file.py:Class."
_Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Folder the task reads.", show_default=False)
]
_Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
_PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="PLAN", help="A plan, for its parameters.", show_default=False),
]


def check(
    task: Annotated[str, typer.Argument(metavar="TASK", help=_TASK_HELP)],
    data: _Data = None,
    plan: _PlanFile = None,
    device: _Device = "auto",
    as_json: Json = False,
) -> int:
    """Run one batch of everything a task does and say what is wrong, before the site joins.

    Exits 1 if something has to be put right.  What the task itself prints appears on standard error.
    """
    from unisono.client.trainer import asking

    found = asking.check(task, asking.Setting(data=data, plan=plan, device=device))
    problems = sum(finding.state == "problem" for finding in found)
    if as_json:
        print_json({"task": task, "ok": not problems, "findings": [asdict(finding) for finding in found]})
    else:
        for finding in found:
            print(_words(finding))
        print(f"{task}: {problems} to put right" if problems else f"{task} is ready")
    return 1 if problems else 0


def predict(
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="What `model pull` wrote.")],
    task: Annotated[str, typer.Option("--task", metavar="TASK", help=_TASK_HELP)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV file to write.")],
    data: _Data = None,
    plan: _PlanFile = None,
    as_json: Json = False,
) -> None:
    """Predict for every row of a task's evaluation data with a model, and write the predictions as CSV."""
    from unisono.client.trainer import asking

    if not model.is_file():
        raise BadConfiguration(f"{model} is not a file\n  write one: unisono model pull -o {model}")
    if output.is_dir() or not output.parent.is_dir():
        raise BadConfiguration(
            f"{output}: not a place for a file\n  name a file in a folder that exists: -o FILE"
        )
    rows = asking.predict(task, model, output, asking.Setting(data=data, plan=plan, name="predict"))
    if as_json:
        print_json({"task": task, "model": str(model), "output": str(output), "rows": rows})
    else:
        print(f"{output}: {rows} predictions of {task} with {model.name}")


def _words(finding: "Finding") -> str:
    mark = {"ok": "ok", "problem": "WRONG", "note": "note"}[finding.state]
    advice = f"\n{'':<9}{finding.advice}" if finding.advice else ""
    return f"  {mark:<5}  {finding.step}: {finding.text}{advice}"
