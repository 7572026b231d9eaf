"""Joining at the start of `unisono client`, for sites that nobody sits at: containers, services."""

from collections.abc import Callable
from pathlib import Path

from unisono.base.clock import Clock
from unisono.base.errors import Unavailable

from .enrol import Enrolled, enrol
from .files import folder_lock
from .halt import Halt
from .vault import Vault

_PAUSE, _LONGEST = 1.0, 30.0

Trouble = Callable[[str, float], None]  # why, and in how many seconds the next try is


def has_joined(folder: Path, clock: Clock) -> bool:
    """Tell whether a join here was finished; one that was cut off is done again."""
    if not (folder / "client.toml").exists():
        return False
    vault = Vault(folder, clock)
    try:
        return vault.identity() is not None
    finally:
        vault.close()


def join_once(
    folder: Path, address: str, token: Callable[[], str], trouble: Trouble, clock: Clock, halt: Halt
) -> Enrolled | None:
    """Join, unless this site has.  Waits for a coordinator that is away; `token` is read only if needed.

    Raises BadCredentials and BadConfiguration as `enrol` does (another try would not mend these), Halted
    when asked to leave.
    """
    with folder_lock(folder):
        if has_joined(folder, clock):
            return None
        line, pause = token(), _PAUSE
        while True:
            try:
                return enrol(folder, address, line, clock, halt.wait)
            except Unavailable as error:
                wait = max(pause, error.retry_after)
                trouble(str(error), wait)
            halt.wait(wait)
            pause = min(2 * pause, _LONGEST)
