"""Why the coordinator cannot be reached: gRPC says UNAVAILABLE, a closer look says what to do about it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unisono.base.errors import BadConfiguration, Unreachable
from unisono.probe import Finding, Target, first_failure, walk

from .channel import Credentials
from .status import make

SECONDS = 2.0  # for each step: somebody waits for the word "cannot"
_HANDSHAKE = "TLS"  # is in every reason that a handshake gives


def look(address: str, ca: bytes, wall: float, pair: tuple[Path, Path] | None = None) -> Finding | None:
    """Walk the way to the coordinator; return what fails, or None if nothing does."""
    try:
        target = Target.at(address, wall, os.environ, ca)  # the proxy that gRPC takes from there
    except BadConfiguration:  # the call itself says so
        return None
    return first_failure(walk(replace(target, pair=pair, seconds=SECONDS)))


def worded(error: Unreachable, address: str, found: Finding | None) -> Unreachable:
    """Return the error with what was found, in its own class; as it is if nothing was."""
    if found is None:
        return error
    reason = f"{found.words}\n  {found.advice}\n  unisono doctor shows each step"
    better = make(type(error), f"cannot reach {address}: {reason}", error.retry_after)
    return better if isinstance(better, Unreachable) else error


@contextmanager
def explaining(address: str, mine: Credentials, wall: float, pair: tuple[Path, Path]) -> Iterator[None]:
    """Explain an Unreachable that leaves the block."""
    try:
        yield
    except Unreachable as error:
        raise worded(error, address, look(address, mine.ca, wall, pair)) from error


def reason(error: Exception, folder: Path, address: str, wall: float) -> str:
    """Return the words for a client that goes on trying: a closer look where the handshake failed only.

    What else fails gRPC names well enough, and looking at it again would keep the client from trying.
    """
    if not isinstance(error, Unreachable) or _HANDSHAKE not in str(error):
        return str(error)
    try:
        mine = Credentials.read(folder, "tls")
    except BadConfiguration:  # the next attempt to connect says so
        return str(error)
    found = look(address, mine.ca, wall, (folder / "tls.pem", folder / "tls.key"))
    return " ".join(str(worded(error, address, found)).split())
