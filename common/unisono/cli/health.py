"""`unisono health`, which is two commands: `--local` is a container's check and must cost little.

So it is here, where nothing of the client is imported; without `--local` the operator's command takes over.
"""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from unisono.base.probe import local as look
from unisono.base.system_clock import SystemClock

from .options import Dir, Json
from .output import print_json


def health(
    directory: Dir = Path(),
    local: Annotated[
        bool,
        typer.Option("--local", help="Instead: the coordinator or client that runs here; for containers."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Ask the coordinator how it is; exits 1 when something needs attention."""
    if not local:
        ask: Callable[[Path, bool], int] = import_module("unisono.client.admin.member_commands").health
        return ask(directory, as_json)
    found = look(directory, os.environ, SystemClock().wall())
    if as_json:
        print_json({"status": "ok" if found.healthy else "attention", "problem": found.line})
    else:
        print(found.line)
    return 0 if found.healthy else 1
