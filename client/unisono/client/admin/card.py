"""The card beside a model file: where the model comes from, in Markdown.  Pure."""

from unisono.base.units import show_bytes

from .documents import Model, Models, Round, Run
from .words import measured


def card(file_name: str, model: Model, models: Models, run: Run | None) -> str:
    """Return the text of `model.md`: run, plan digest, rounds, metrics, number of clients.

    `run` adds its history; a client, which may not see it, gets the card without.
    """
    state = f" of {run.published} (run {run.state}), protection {run.protection}" if run else ""
    facts = (
        ("run", models.run),
        ("task", models.task or "-"),
        ("round", f"{model.round}{state}"),
        ("plan", f"`{models.plan_sha256}`"),
        ("clients", "-" if models.clients is None else models.clients),
        ("metrics", measured(model.metrics) or "not evaluated"),
        ("file", f"`{file_name}`, {show_bytes(model.bytes)}, safetensors"),
        ("sha256", f"`{model.sha256}`"),
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts)
    return (
        f"# {models.task or file_name}, round {model.round}\n\n"
        "A global model of a federation: trained with Unisono on data that never left its owners.\n\n"
        f"| | |\n|---|---|\n{rows}\n{_history(run.rounds if run else ())}\n"
        "## Use it\n\n"
        "```python\nfrom safetensors.torch import load_file\n\n"
        f'model.load_state_dict(load_file("{file_name}"))\n```\n'
    )


def _history(rounds: tuple[Round, ...]) -> str:
    measures = [r for r in rounds if r.metrics]
    if not measures:
        return ""
    rows = "\n".join(f"| {r.round} | {measured(r.metrics)} | {r.sizes[1] or '-'} |" for r in measures)
    return f"\n## Rounds\n\n| round | metrics | clients |\n|---|---|---|\n{rows}\n"
