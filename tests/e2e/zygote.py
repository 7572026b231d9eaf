"""Starts commands by fork, so that another life of one costs no imports.

A program of its own; for the crash tests, under their shim.  Nothing of gRPC is used before the fork, so a
child is as new as one that was started by hand: it goes through the same command line.  Requests and answers
are lines of JSON:

    {"words": [...], "log": PATH, ...}            -> {"pid": N}
    and, whenever a child has ended                  {"ended": N, "status": N}

More of a request: "out" (a file for stdout, else the log), "environment"; for the shim "control", "root",
"trace", "marks".
"""

import ctypes
import json
import os
import selectors
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
MODULES = (
    *("client.commands", "client.runtime.site", "client.runtime.enrol", "server.commands", "server.process"),
    *(f"client.admin.{name}_commands" for name in ("audit", "member", "model", "receipt", "run")),
    "client.admin.connection",
)


def child(request: dict[str, Any]) -> NoReturn:
    """Become one process of the federation."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(request["out"], os.O_WRONLY) if request.get("out") else log, 1)
    os.dup2(log, 2)
    os.environ.update(request.get("environment", {}))
    time.tzset()
    paths = [os.fsencode(request.get(name, "")) for name in ("root", "control", "trace")]
    if request.get("control") and library.crash_arm(*paths):
        os._exit(99)
    if request.get("marks"):
        from crash_marks import mark_everything  # noqa: PLC0415 - only where it is wanted

        mark_everything(lambda text: library.crash_mark(text.encode()))
    from unisono.cli import main  # noqa: PLC0415

    code = 1
    try:
        code = main(request["words"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer requests until standard input ends."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(read, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if read in ready:
                os.read(read, 4096)
                reap()
            if 0 in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                pid = os.fork()
                if pid == 0:
                    child(json.loads(line))
                print(json.dumps({"pid": pid}), flush=True)


def reap() -> None:
    """Tell of everyone that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        print(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "crash"))
    for module in MODULES:
        import_module(f"unisono.{module}")
    print(json.dumps({"ready": os.getpid()}), flush=True)
    serve()
