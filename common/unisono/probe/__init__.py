"""Looks at this machine and at the way to a coordinator, and says what it finds, a finding a thing.

gRPC reports every broken connection as UNAVAILABLE.  `way` walks the same way step by step (name, proxy, TCP,
TLS) with plain sockets, so that the step that fails can be named; `machine` looks at disk, limits, versions.
Nothing here keeps state or changes anything but a file that it writes and removes to time the disk.
"""

from .finding import FAILURE, OK, WARNING, Finding, Status, failure, ok, warning
from .machine import disk, machine, open_files, versions
from .proxy import Proxy, proxy_for
from .subject import Ask, Subject, config_failure
from .tls import OtherHost
from .validity import certificate_life, clock_of
from .way import Target, first_failure, walk

__all__ = [
    "Ask",
    "Subject",
    "config_failure",
    "FAILURE",
    "OK",
    "WARNING",
    "Finding",
    "OtherHost",
    "Proxy",
    "Status",
    "Target",
    "certificate_life",
    "clock_of",
    "disk",
    "failure",
    "first_failure",
    "machine",
    "ok",
    "open_files",
    "proxy_for",
    "versions",
    "walk",
    "warning",
]
