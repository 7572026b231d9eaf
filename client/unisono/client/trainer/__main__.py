"""The trainer process.  Nothing heavy is imported before the first request names a task and its threads."""

import os
import signal
import sys

from .channel import Channel


def main() -> int:
    """Serve a parent over stdio, or, with arguments, check a task or predict with it."""
    channel = Channel()
    if len(sys.argv) > 1:
        settle(1)
        from .once import run  # noqa: PLC0415

        return run(sys.argv[1:], channel)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    channel.listen()
    serve(channel)
    return 0


def settle(threads: int) -> None:
    """Fix what libraries read from the environment when they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS is not repeatable


def serve(channel: Channel) -> None:
    """Answer requests until the parent closes the channel."""
    message = channel.receive()
    threads = message.get("threads")
    settle(threads if type(threads) is int else 1)
    from .desk import Desk  # noqa: PLC0415 - from here on numpy, cryptography, the task

    desk = Desk(channel.progress)
    while True:
        channel.reply(desk.answer(message))
        message = channel.receive()


if __name__ == "__main__":
    sys.exit(main())
