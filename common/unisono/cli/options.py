"""Options that mean the same in every command, so that they are spelled and explained once."""

from pathlib import Path
from typing import Annotated

import typer

Dir = Annotated[
    Path,
    typer.Option(
        "--dir",
        metavar="DIR",
        envvar="UNISONO_DIR",
        readable=False,  # another user's folder is no usage error: it is told as such (exit 3)
        help="Folder made by `init` or `join`.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, full precision.")]
