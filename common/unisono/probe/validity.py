"""Certificates and clocks: how long the one is valid, how far the other is off."""

from datetime import UTC, datetime

from unisono.base.errors import BadCredentials, Error
from unisono.base.units import show_seconds
from unisono.identity.presented import period

from .finding import Finding, failure, ok, warning

DAY = 86_400.0
NOTICEABLE = 30.0  # seconds that two clocks may differ without a word
HARMFUL = 3600.0  # certificates begin an hour before they are issued: more than that breaks handshakes


def when(wall: float) -> str:
    """Write a time in UTC: who writes and who reads may be in different countries."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M UTC")


def certificate_life(what: str, who: str, pem: bytes, now: float, way_out: str, renewed: bool) -> Finding:
    """Say until when a certificate is valid; `renewed`: by itself, in the last third of its life."""
    start, end = period(pem)
    if now < start:
        words = f"{who} is not valid before {when(start)}, and here it is {when(now)}"
        return failure(what, words, "correct this machine's clock, for example with NTP", BadCredentials)
    if now >= end:
        return failure(what, f"{who} expired on {when(end)}", way_out, BadCredentials)
    left, life = end - now, end - start
    words = f"{who}, valid until {when(end)} ({days(left)} left)"
    if left > life / 4:
        return ok(what, words)
    if renewed:
        return warning(what, words, "it renews itself while it can reach the coordinator: see below")
    return warning(what, words, way_out)


def days(seconds: float) -> str:
    """Write a rest of time in days, below two days in hours."""
    return f"{seconds / DAY:.0f} days" if seconds >= 2 * DAY else f"{seconds / 3600:.0f} hours"


def clock_of(here: float, there: float, whose: str = "the coordinator's") -> Finding:
    """Compare this machine's wall clock with another's, read at the same moment."""
    off = abs(here - there)
    side = "ahead of" if here > there else "behind"
    if off <= NOTICEABLE:
        return ok("clock", f"within {max(1, round(off))} s of {whose}")
    words = f"this machine's clock ({when(here)}) is {show_span(off)} {side} {whose} ({when(there)})"
    if off <= HARMFUL:
        return warning("clock", words, _SET)
    return failure("clock", words, f"{_SET}; certificates seem expired or not yet valid by it", Error)


_SET = "find out which of the two is wrong, and set it by NTP (timedatectl set-ntp true)"


def show_span(seconds: float) -> str:
    """Write how far two clocks are apart."""
    return f"{seconds / DAY:.1f} days" if seconds >= 1.5 * DAY else show_seconds(seconds)
