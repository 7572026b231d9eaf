"""Durations, sizes and rates as people write them, and back."""

import re
from math import inf

from .errors import BadConfiguration

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BITS = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "B": 8.0, "kB": 8e3, "MB": 8e6, "GB": 8e9}


def seconds(text: str) -> float:
    """Return the seconds in "90s", "15m", "24h" or "30d".  Raises BadConfiguration."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    value = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < value < inf:
        raise BadConfiguration(f'"{_cut(text)}" is not a duration; write for example 90s, 15m, 24h or 30d')
    return value


def bytes_per_second(text: str) -> float:
    """Return the bytes per second in "20Mbit", "2MB/s".  Raises BadConfiguration."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?(?:bit|B))(?:/s)?", text.strip())
    value = float(found[1]) * _BITS[found[2]] / 8 if found else 0.0
    if not 0 < value < inf:
        raise BadConfiguration(f'"{_cut(text)}" is not a rate; write for example 20Mbit or 2MB/s')
    return value


def _cut(text: str) -> str:
    """Return what of somebody's text fits into a line and steers no terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:40]) + "..." * (len(text) > 40)


def show_bytes(count: float) -> str:
    """Write a size for people: 812 B, 2.1 kB, 25 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"


def show_seconds(count: float) -> str:
    """Write a duration for people: 0.21 s, 14 s, 1 m 12 s, 3 h 5 m."""
    if 0 < count < 10:
        return f"{count:.2f} s" if count < 1 else f"{count:.1f} s"
    whole = round(count)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"
