"""`unisono client plans`: what somebody at the site looks at before it takes part, and what they say.

They work beside the running client, which holds the folder, and without it: see `runtime.approvals`.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration
from unisono.base.ids import is_digest
from unisono.base.system_clock import SystemClock
from unisono.cli.options import Dir, Json
from unisono.cli.output import print_json

from .words import columns, stamp

if TYPE_CHECKING:
    from unisono.client.runtime.approvals import Approvals, Record

_WIDTH = 110
_Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The first 8 digits of the plan's digest, or more.", show_default=False
    ),
]


def plans(directory: Dir = Path(), as_json: Json = False) -> None:
    """List the plans that this site was asked to take part in, and what was answered.

    With approve = "ask" in policy.toml a plan is "waiting" until somebody here approves or rejects it.
    """
    found = _approvals(directory).records()
    if as_json:
        print_json({"plans": [_document(record) for record in found]})
    elif found:
        rows = [
            (r.id, r.question.run, _task(r.question.plan), r.state, stamp(r.question.asked)) for r in found
        ]
        print(columns(rows, ("id", "run", "task", "state", "asked")))
    else:
        print("no plan was asked here yet")


def show(id: _Id, directory: Dir = Path(), as_json: Json = False) -> None:
    """Show a plan in words: what it does here, what leaves the site, and the digests to compare by phone.

    The plan's digest is what the operator's `unisono plan check PLAN --json` says (plan_sha256); the roster's
    is the same at every site of the run.
    """
    record = _approvals(directory).find(id)
    if as_json:
        print_json(_document(record))
        return
    for line in _lines(record):
        print(line)


def approve(
    id: _Id,
    roster: Annotated[
        str,
        typer.Option(metavar="DIGEST", help="The roster's digest, compared with the other sites by phone."),
    ] = "",
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Approve a plan: this site takes part in runs of it, within policy.toml.

    With --roster it takes part with that roster only.  A running client notices within about a second.
    """
    from unisono.client.runtime.approvals import Answer

    wanted = roster.replace(" ", "").lower()
    if wanted and not is_digest(wanted):
        raise BadConfiguration(f'--roster "{roster[:80]}" is not a SHA-256 of 64 hexadecimal digits')
    box = _approvals(directory)
    record = box.find(id)
    pinned = record.question.pinned
    if wanted and pinned is not None and pinned.digest != wanted:
        raise BadConfiguration(
            f"the roster of {pinned.run} has another digest: {pinned.digest}\n"
            "  if it is not the one that the other sites read out, reject the plan and ask the operator"
        )
    _said(box.say(record, Answer(said="approved", roster=wanted, wall=SystemClock().wall())), as_json)


def reject(
    id: _Id,
    reason: Annotated[str, typer.Option(help="Why; the operator reads it.", show_default=False)],
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Reject a plan: this site takes no part in runs of it, from the next round on if one goes on.

    The operator sees the reason.  `approve` takes it back.
    """
    from unisono.client.runtime.approvals import Answer

    box = _approvals(directory)
    answer = Answer(said="rejected", reason=reason[:400], wall=SystemClock().wall())
    _said(box.say(box.find(id), answer), as_json)


def _approvals(directory: Path) -> "Approvals":
    from unisono.client.runtime.approvals import Approvals
    from unisono.client.runtime.files import client_folder

    folder = client_folder(directory)
    if not (folder / "client.toml").exists():
        raise BadConfiguration(
            f"{folder} has not joined a federation\n  give the folder that `unisono join` made: --dir DIR"
        )
    return Approvals(folder)


def _said(record: "Record", as_json: bool) -> None:
    if as_json:
        print_json(_document(record))
    else:
        print(f"{record.id} {record.state}: {_task(record.question.plan)}, asked for {record.question.run}")


def _task(plan: str) -> str:
    from unisono.plan import from_canonical

    try:
        return from_canonical(plan.encode()).task
    except BadConfiguration:
        return "(cannot be read by this version)"


def _document(record: "Record") -> dict[str, object]:
    """Return a record for scripts."""
    question, answer = record.question, record.answer
    pinned = question.pinned
    return {
        "id": record.id,
        "plan_sha256": question.digest,
        "run": question.run,
        "task": _task(question.plan),
        "state": record.state,
        "reason": answer.reason if answer else question.declined,
        "asked": question.asked,
        "answered": answer.wall if answer else None,
        "roster_sha256": pinned.digest if pinned else None,
        "sites": [{"name": name, "key_sha256": key} for name, key in pinned.sites] if pinned else None,
        "compared": record.compared,
    }


def _lines(record: "Record") -> list[str]:
    from unisono.client.runtime.status import printable
    from unisono.plan import from_canonical

    from .plan_words import described, grouped, promise

    question, answer = record.question, record.answer
    lines = [f"{record.id}  {question.run}, asked {stamp(question.asked)}: {record.state}"]
    plan = from_canonical(question.plan.encode())
    parts = [*described(plan, question.cohort), ("plan digest", grouped(question.digest))]
    if plan.protection.mode != "sealed":
        if question.pinned:
            parts.append(("roster", grouped(question.pinned.digest)))
        parts.append(("", promise(record)))
    if answer is not None:
        parts.append(
            (
                "answer",
                f"{answer.said} {stamp(answer.wall)}" + (f": {answer.reason}" if answer.reason else ""),
            )
        )
    if question.declined:
        parts.append(("declined", question.declined))
    elif answer is None and question.waits:
        parts.append(("next", f"unisono client plans approve {record.id}"))
        parts.append(("", f'unisono client plans reject {record.id} --reason "..."'))
    for name, words in parts:
        lines += textwrap.wrap(
            printable(words), _WIDTH, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14
        )
    return lines
