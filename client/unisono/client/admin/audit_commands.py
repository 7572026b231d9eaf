"""`unisono audit`: the log of a coordinator or of a site, shown and checked where it lies.

Both work on the folder itself, beside the running process or on a copy, and ask nobody.
"""

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration
from unisono.base.ids import Digest, is_digest
from unisono.cli.options import Dir, Json
from unisono.cli.output import note, print_json

from .words import columns, stamp

if TYPE_CHECKING:
    from unisono.audit import Row

_MOST = 100  # characters of a line's detail on a screen


def verify(
    head: Annotated[
        str,
        typer.Option("--head", metavar="SHA256", help="A hash noted earlier: it must still be in the log."),
    ] = "",
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Check the chain of an audit log: a line changed, taken out or moved is named, and the command exits 1.

    Lines cut off the end are missed only by whoever noted a later head: give it with --head.  Heads are
    printed here, stand in every receipt (`unisono client receipts`) and on the dashboard.
    """
    from unisono.audit import find_log

    wanted = head.replace("-", "").removeprefix("SHA256:").strip().lower()
    if wanted and not is_digest(wanted):
        raise BadConfiguration(f'--head "{head[:80]}" is not a SHA-256 of 64 hexadecimal digits')
    log = find_log(directory)
    count, found, line = log.verify(Digest(wanted) if wanted else None)
    if as_json:
        print_json(
            {"log": str(log.path), "side": log.side, "lines": count, "head": found, "noted_line": line}
        )
        return
    print(f"{log.path}: {count} lines, each fits the one before")
    print(f"  head   {found}")
    if line is not None:
        since = "no line was added since" if line == count else f"{count - line} lines were added since"
        print(f"  noted  {wanted} is line {line}; {since}")
    else:
        print(
            "  next   note the head elsewhere; later: unisono audit verify --head SHA256 shows a cut-off end"
        )


def show(
    run: Annotated[str, typer.Option(metavar="ID", help="Only lines about this run.")] = "",
    what: Annotated[str, typer.Option(metavar="KIND", help="Only lines of this kind, as released.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="How many of the last lines; 0: all.")] = 50,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Show the last lines of an audit log, the newest at the end; each is checked on the way.

    With --json one object a line.
    """
    from unisono.audit import find_log

    log = find_log(directory)
    wanted = (r for r in log.rows() if (not run or r.run == run) and (not what or r.what == what))
    rows = deque(wanted, limit or None)
    if as_json:
        for row in rows:
            print_json(_document(row))
    elif rows:
        print(columns((_cells(row) for row in rows), ("line", "time", "what", "run", "client", "detail")))
        note(f"head {log.verify()[1]}")
    else:
        print(f"{log.path}: no such line")


def _document(row: "Row") -> dict[str, object]:
    return {
        "seq": row.seq,
        "wall": row.wall,
        "what": row.what,
        "run": row.run,
        "client": row.client,
        "detail": dict(row.detail),
        "hash": row.hash,
    }


def _cells(row: "Row") -> tuple[object, ...]:
    """Write a line for people: digests short, the whole in one row of the screen."""
    detail = " ".join(f"{key}={_short(value)}" for key, value in row.detail.items())
    cut = detail if len(detail) <= _MOST else detail[: _MOST - 3] + "..."
    return row.seq, stamp(row.wall), row.what, row.run or "-", row.client or "-", cut


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if is_digest(text) else text
