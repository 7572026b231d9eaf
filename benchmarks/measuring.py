"""Readings from /proc: memory and CPU of a process, CPU of the machine, bytes over the loopback."""

import os
from dataclasses import dataclass
from pathlib import Path

HERTZ = os.sysconf("SC_CLK_TCK")
MB = 1_000_000


def status_mb(pid: int, key: str) -> float:
    """Return VmRSS (now) or VmHWM (peak) of a process in units of 10^6 bytes; 0 if it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024 / MB
    except FileNotFoundError:
        pass
    return 0.0


def forget_peak(pid: int) -> None:
    """Begin VmHWM anew, so that what was needed to start is not counted."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started, from any of its threads."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, thread.read_text().split())
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time that these processes have used so far."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / HERTZ


def machine_seconds() -> float:
    """Return the CPU time that the whole machine has used so far."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / HERTZ


def loopback_bytes() -> int:
    """Return the bytes that went over the loopback so far, each counted once, headers and TLS included."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    return 0


def filesystem(path: Path) -> str:
    """Return the kind of file system that `path` lies on."""
    best, kind = "", "?"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        if str(path.resolve()).startswith(place) and len(place) > len(best):
            best, kind = place, found
    return kind


@dataclass(frozen=True, slots=True)
class Load:
    """What other programs take while we measure: above about 0.2 cores, distrust the row."""

    machine: float
    ours: float
    at: float

    @classmethod
    def now(cls, pids: list[int], at: float) -> "Load":
        return cls(machine_seconds(), cpu_seconds(pids), at)

    def others_since(self, before: "Load") -> float:
        spent = (self.machine - before.machine) - (self.ours - before.ours)
        return max(0.0, spent / max(1e-9, self.at - before.at))
