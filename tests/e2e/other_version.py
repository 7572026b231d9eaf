"""Runs a client or a coordinator that speaks other protocol versions than this one.

python other_version.py serve LOW HIGH DIR        python other_version.py client LOW HIGH DIR NAME=CLASS
"""

import sys
from functools import partial
from pathlib import Path

from unisono.cli.outcomes import report
from unisono.client import commands
from unisono.client.runtime import site
from unisono.server import process
from unisono.server.services.server import build


def serve(versions: tuple[int, int], folder: Path) -> int:
    vars(process)["build"] = partial(build, protocols=versions)
    return process.run(folder, {"host": "127.0.0.1"})


def client(versions: tuple[int, int], folder: Path, task: str) -> int:
    vars(site)["opened"] = partial(site.opened, protocol=versions)
    return commands.client(folder, [task])


def main(what: str, low: str, high: str, folder: str, *task: str) -> int:
    versions = (int(low), int(high))
    try:
        return serve(versions, Path(folder)) if what == "serve" else client(versions, Path(folder), *task)
    except Exception as error:
        return report(error)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
