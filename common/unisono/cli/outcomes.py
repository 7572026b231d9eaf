"""The one table from what a command raises to an exit code, and to at most three lines on stderr.

    0 done   1 failed   2 usage   3 configuration   4 credentials   5 unreachable   130 interrupted

An error's message carries its own lines: what is wrong, where, what to do (UX rule 6), the last two indented.
"""

import errno
import os
import sys
import traceback
from typing import Protocol, runtime_checkable

from unisono.base.errors import BadConfiguration, BadCredentials, Error, NotEnrolled, Unreachable

from .verbosity import is_verbose

DONE, FAILED, USAGE, CONFIGURATION, CREDENTIALS, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

_CODES: tuple[tuple[type[Error], int], ...] = (
    (BadConfiguration, CONFIGURATION),
    (BadCredentials, CREDENTIALS),
    (NotEnrolled, CREDENTIALS),
    (Unreachable, UNREACHABLE),
    (Error, FAILED),
)
_LINES = 3


@runtime_checkable
class UsageProblem(Protocol):
    """What typer raises for a wrong command line; its class moved between releases, its shape did not."""

    exit_code: int

    def format_message(self) -> str: ...


def exit_code(error: BaseException) -> int:
    """Return the exit code for what a command raised."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case UsageProblem():
            return error.exit_code
        case Error():
            return exit_code_of(type(error))
        case OSError() if _is_access(error):
            return CONFIGURATION
        case _:
            return FAILED


def exit_code_of(family: type[Error]) -> int:
    """Return the exit code for errors of this class."""
    return next(code for base, code in _CODES if issubclass(family, base))


def report(error: BaseException) -> int:
    """Say on stderr what went wrong; return the exit code.  A traceback only with `-v`."""
    if is_verbose() and not isinstance(error, UsageProblem | KeyboardInterrupt):
        traceback.print_exception(error)
    for line in _words(error).splitlines()[:_LINES]:
        print(
            "".join(c if c.isprintable() else "?" for c in line), file=sys.stderr
        )  # some are a file's words
    return exit_code(error)


def _words(error: BaseException) -> str:
    match error:
        case KeyboardInterrupt():
            return str(error) or "interrupted"
        case UsageProblem():
            return _usage(error)
        case Error():
            return str(error) or error.code
        case OSError(filename=str() as name) if _is_access(error):
            return f"{name}: {error.strerror}\n  {_who_may(error)}"
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            return f"{name!s}: {reason}"
        case OSError():
            return str(error)
        case _:
            seen = "" if is_verbose() else "\n  run the command again with -v to see where, and report it"
            return f"internal fault: {type(error).__name__}: {_first_line(error)}{seen}"


def _is_access(error: OSError) -> bool:
    """Tell whether a folder or secret is not this process's: a volume of another user, a wrong mode."""
    return isinstance(error, PermissionError) or error.errno == errno.EROFS


def _who_may(error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "give the process a place that it may write: a volume, or tmpfs for what need not last"
    user = f"{os.getuid()}:{os.getgid()}"
    return f"this process is user {user}; make the file or folder its own: chown -R {user} PATH, chmod go="


def _usage(error: UsageProblem) -> str:
    """Write "run start: missing argument 'PLAN'" and where to read more."""
    context = getattr(error, "ctx", None)
    path = str(getattr(context, "command_path", "unisono"))
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{path}: {message[:1].lower()}{message[1:]}\n  {path} --help shows how it is used"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
