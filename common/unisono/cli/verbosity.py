"""Whether the person asked for more (`-v`), for whoever writes a log or a traceback."""

from contextvars import ContextVar

_VERBOSE: ContextVar[bool] = ContextVar("unisono_verbose", default=False)


def is_verbose() -> bool:
    """Tell whether `-v` was given, before or after the subcommand."""
    return _VERBOSE.get()


def set_verbose(wanted: bool) -> None:
    """Remember what the command line said; the callback of `-v` and the start of `main` call it."""
    _VERBOSE.set(wanted)
