"""What a demo says, as lines.  Pure: values in, text out."""

from collections.abc import Sequence

from unisono.base.units import show_bytes, show_seconds
from unisono.client.admin.documents import Round
from unisono.plan import Plan
from unisono.secagg.shared.laying import terms_of

HEAD = f"  {'round':>5}   {'loss':<5}   {'accuracy':<8}   {'time':<7}   {'up':<7}   down"

SEALED = "sealed: updates are encrypted to the coordinator's certified key, which opens them one by one"


def labelled(label: str, text: str) -> str:
    """Write a line with its subject in front."""
    return f"  {label:<12} {text}".rstrip()


def protection_line(plan: Plan, clients: int) -> str:
    """Say what the coordinator can read."""
    if plan.protection.mode == "sealed":
        return labelled("protection", SEALED)
    terms = terms_of(plan, clients, clients)
    needed = f"opened by {terms.threshold} of {clients}, never below {terms.minimum}"
    return labelled("protection", f"secagg: the coordinator learns only sums ({needed}; post-quantum keys)")


def data_line(rows: Sequence[tuple[int, int]]) -> str:
    """Say who has what."""
    train, held_out = ", ".join(str(t) for t, _ in rows), sum(h for _, h in rows)
    text = f"Wisconsin breast cancer, {len(rows)} hospitals: {train} rows to train, {held_out} held out"
    return labelled("data", text)


def round_line(one: Round) -> str:
    """Write a round's row of the table under `HEAD`."""
    metrics = one.metrics or {}
    loss, accuracy = (f"{metrics[k]:.3f}" if k in metrics else "-" for k in ("loss", "accuracy"))
    time = show_seconds(one.seconds) if one.seconds is not None else "-"
    up, down = (show_bytes(n) if n is not None else "-" for n in (one.bytes_in, one.bytes_out))
    return f"  {one.round:>5}   {loss:<5}   {accuracy:<8}   {time:<7}   {up:<7}   {down}"


def comparison(federated: float, alone: Sequence[float], pooled: float) -> list[str]:
    """Write the closing table: accuracy on the held-out rows of all sites."""
    return [
        f"  accuracy on all held-out rows   each hospital alone     {'  '.join(f'{a:.3f}' for a in alone)}",
        f"  {'':<29}   together, data stayed   {federated:.3f}",
        f"  {'':<29}   pooled (not allowed)    {pooled:.3f}",
    ]
