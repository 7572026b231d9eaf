"""The card beside a model file: where the model comes from, in Markdown.  Pure."""

from unisono.base.units import show_bytes

from .documents import Model, Models, Run
from .words import measured


def card(file_name: str, model: Model, models: Models, run: Run) -> str:
    """Return the text of `model.md`: run, plan digest, rounds, metrics, number of clients."""
    clients = models.clients if models.clients is not None else _most_survivors(run)
    facts = (
        ("run", run.id),
        ("task", models.task or run.task or "-"),
        ("round", f"{model.round} of {len(run.rounds)} (run {run.state})"),
        ("plan", f"`{models.plan_sha256 or run.plan_sha256}`"),
        ("protection", run.protection or "-"),
        ("clients", clients if clients is not None else "-"),
        ("metrics", measured(model.metrics) or "not evaluated"),
        ("file", f"`{file_name}`, {show_bytes(model.bytes)}, safetensors"),
        ("sha256", f"`{model.sha256}`"),
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts)
    return (
        f"# {models.task or run.task or file_name}, round {model.round}\n\n"
        "A global model of a federation: trained with Unisono on data that never left its owners.\n\n"
        f"| | |\n|---|---|\n{rows}\n{_history(run)}\n"
        "## Use it\n\n"
        "```python\nfrom safetensors.torch import load_file\n\n"
        f'model.load_state_dict(load_file("{file_name}"))\n```\n'
    )


def _most_survivors(run: Run) -> int | None:
    return max((r.survivors for r in run.rounds if r.survivors is not None), default=None)


def _history(run: Run) -> str:
    measures = [r for r in run.rounds if r.metrics]
    if not measures:
        return ""
    rows = "\n".join(f"| {r.round} | {measured(r.metrics)} | {r.survivors or '-'} |" for r in measures)
    return f"\n## Rounds\n\n| round | metrics | clients |\n|---|---|---|\n{rows}\n"
