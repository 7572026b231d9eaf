"""How the process beside us is, without a key or a connection: what a container's health check asks.

A coordinator is asked at its ops port's /readyz, a client by the file that its own process keeps (it opens no
port).  A check comes every few seconds, for ever, on machines that have other work, so this module imports
next to nothing.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from .errors import BadConfiguration
from .units import show_seconds

FILE = "health.json"  # in a client's folder, unless `health_file` says otherwise
SILENT_SECONDS = 45.0  # without a beat, then the process hangs, or the machine is far too busy to be useful
_SECONDS = 20.0  # for /readyz; the engine has a limit of its own
_PREFIX = "UNISONO_"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask, not where to listen


@dataclass(frozen=True, slots=True)
class Judged:
    """What somebody who asks is told, in one line."""

    healthy: bool
    line: str


def local(directory: Path, environment: Mapping[str, str], wall: float) -> Judged:
    """Judge the process that works in `directory`.  Raises BadConfiguration if there is no folder of ours."""
    for folder in (directory / "coordinator", directory):
        if (folder / "coordinator.toml").is_file():
            return _coordinator(folder / "coordinator.toml", environment)
    if named := environment.get(f"{_PREFIX}HEALTH_FILE"):
        return judged(Path(named), wall)
    for folder in (directory / "client", directory):
        if (folder / "client.toml").is_file():
            named = str(_settings(folder / "client.toml").get("health_file") or folder / FILE)
            return judged(Path(named), wall)
    raise BadConfiguration(
        f"neither a coordinator nor a client has its folder in {directory}\n"
        "  give the folder that `unisono init` or `unisono join` made: --dir DIR"
    )


def judged(file: Path, wall: float) -> Judged:
    """Read what a client keeps about itself, and judge it."""
    try:
        told = json.loads(file.read_bytes())
        name, state, problems = str(told["name"]), str(told["state"]), [*map(str, told["problems"].values())]
        silent = wall - float(told["beat"])
    except FileNotFoundError:
        return Judged(False, f"no client runs here, or it is only starting: {file} is not there")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return Judged(False, f"{file} cannot be read: {type(error).__name__}")
    if not -SILENT_SECONDS < silent < SILENT_SECONDS:
        return Judged(False, f"{name} has been silent for {show_seconds(abs(silent))}: the process hangs")
    if problems:
        return Judged(False, f"{name}: {'; '.join(problems)}")
    return Judged(state == "connected", f"{name} is {state}")


def _settings(file: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadConfiguration(f"{file}: not valid TOML: {error}") from None


def _coordinator(file: Path, environment: Mapping[str, str]) -> Judged:
    settings = _settings(file)
    host = environment.get(f"{_PREFIX}OPS_HOST") or str(settings.get("ops_host", "127.0.0.1"))
    text = environment.get(f"{_PREFIX}OPS_PORT") or str(settings.get("ops_port", 8444))
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise BadConfiguration(
            f"{file}: ops_port is {text}, so the coordinator cannot be asked from here\n"
            "  set a port, or ask with the operator's certificate: unisono health --dir DIR"
        )
    host = _EVERYWHERE.get(host, host)
    connection = HTTPConnection(host, int(text), timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        return _ready(reply.status, reply.read(65_536))
    except (OSError, HTTPException) as error:
        return Judged(False, f"the coordinator does not answer on {host}:{text}: {error}")
    finally:
        connection.close()


def _ready(status: int, body: bytes) -> Judged:
    try:
        told = json.loads(body)
        checks = {str(name): dict(check) for name, check in told["checks"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return Judged(False, f"/readyz answers {status} and not how the coordinator is")
    wrong = [
        f"{name}: {check.get('detail') or 'not ok'}" for name, check in checks.items() if not check.get("ok")
    ]
    if status == 200 and not wrong:
        return Judged(True, "the coordinator is ready")
    return Judged(False, f"the coordinator is not ready: {'; '.join(wrong) or told.get('status')}")
