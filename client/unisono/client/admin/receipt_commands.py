"""`unisono client receipts`: what left a site, and the coordinator's signed word in which models it counts.

Both work on the site's folder, beside the running client or on a copy, and ask nobody.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration, Corrupt, Error
from unisono.base.units import show_bytes
from unisono.cli.options import Dir, Json
from unisono.cli.output import print_json

from .words import columns, short, stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from unisono.client.runtime.receipts import Sent

_Run = Annotated[str, typer.Option("--run", metavar="ID", help="Only of this run.")]
_WORDS = {
    "due": "not answered yet",
    "held": "counts",
    "none": "does not count",
    "refused": "receipt does not hold",
}


def receipts(run: _Run = "", directory: Dir = Path(), as_json: Json = False) -> None:
    """List the updates that left this site, and in which models they count.

    What counts is proved by a receipt, which the coordinator has signed: `unisono client receipts verify`
    checks them all.  With --json one object a line, the receipt itself in it, to be shown to others.
    """
    from unisono.client.runtime.receipts import sent_by

    found = [sent for sent in sent_by(_folder(directory)) if not run or sent.run == run]
    if as_json:
        for sent in found:
            print_json(_document(sent))
    elif found:
        head = ("run", "round", "sent", "digest", "size", "protection", "", "model", "with")
        print(columns((_cells(sent) for sent in found), head))
        for sent in found:
            if sent.state == "refused":
                print(f"  {sent.run}, round {sent.round}: {sent.reason}")
    else:
        print("nothing has left this site that a receipt could be for")


def verify(run: _Run = "", directory: Dir = Path(), as_json: Json = False) -> int:
    """Check every receipt offline: who signed, what for, and that the site's own log says it was sent.

    Exits 1 if one does not hold.  What is proved, and what is not, is in docs/AUDIT.md.
    """
    from unisono.client.runtime.receipts import sent_by
    from unisono.client.runtime.verifying import Verifier

    folder = _folder(directory)
    verifier = Verifier.of(folder)
    found = [sent for sent in sent_by(folder) if not run or sent.run == run]
    wrong = [(sent, reason) for sent in found if (reason := _wrong(verifier.check, sent))]
    counts = {state: sum(sent.state == state for sent in found) for state in _WORDS}
    if as_json:
        bad = [{"run": s.run, "round": s.round, "sha256": s.sha256, "reason": why} for s, why in wrong]
        print_json(
            {"site": verifier.name, "audit_head": verifier.head, "sent": len(found), **counts, "wrong": bad}
        )
        return 1 if wrong else 0
    log = f"as its audit log says, whose {verifier.lines} lines are whole"
    print(f"{verifier.name}: {len(found)} updates left this site, {log}")
    if (proved := counts["held"] - sum(sent.state == "held" for sent, _ in wrong)) or not wrong:
        print(f"  {proved:<4} proved to count: signed by the coordinator of this federation")
    for state in ("none", "due"):
        if counts[state]:
            print(f"  {counts[state]:<4} {_WORDS[state]}: the coordinator has signed nothing for them")
    print(f"  head {verifier.head}")
    if wrong:
        (first, why), more = wrong[0], f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise Corrupt(
            f"the receipt for round {first.round} of {first.run} does not hold{more}: {why}\n"
            "  keep this folder as it is; the operator of the coordinator has to explain it"
        )
    return 0


def _wrong(check: "Callable[[Sent], None]", sent: "Sent") -> str:
    try:
        check(sent)
    except Error as error:
        return str(error).splitlines()[0]
    return ""


def _folder(directory: Path) -> Path:
    from unisono.client.runtime.files import client_folder

    folder = client_folder(directory)
    if not (folder / "client.toml").exists() or not (folder / "state.db").exists():
        raise BadConfiguration(
            f"{folder} has not joined a federation\n  give the folder that `unisono join` made: --dir DIR"
        )
    return folder


def _document(sent: "Sent") -> dict[str, object]:
    import json

    return {
        "run": sent.run,
        "round": sent.round,
        "sha256": sent.sha256,
        "bytes": sent.bytes,
        "protection": sent.protection,
        "wall": sent.wall,
        "state": sent.state,
        "reason": sent.reason,
        "receipt": json.loads(sent.receipt) if sent.receipt else None,
        "certificate": sent.certificate,
    }


def _cells(sent: "Sent") -> tuple[object, ...]:
    from unisono.audit import Receipt

    first = (
        sent.run,
        sent.round,
        stamp(sent.wall),
        short(sent.sha256),
        show_bytes(sent.bytes),
        sent.protection,
    )
    if sent.state != "held":
        return (*first, _WORDS[sent.state], "-", "-")
    published = Receipt.from_json(sent.receipt).published
    counts = "counts" if published.what == "train" else "evaluated"
    others = published.count - 1
    return (*first, counts, short(published.model), f"{others} other{'' if others == 1 else 's'}")
