"""`unisono health --local`: how the process beside us is, without the operator's certificate.

A container's health check runs inside the container: a coordinator is asked at its ops port's /readyz, a
client by the file that it keeps.
"""

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unisono.base.clock import Clock
from unisono.base.errors import BadConfiguration
from unisono.client.runtime.vitals import FILE, Judged, judged
from unisono.plan.layers import Layers
from unisono.plan.reading import read_toml

_SECONDS = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask, not where to listen


class _Ops(BaseModel):
    """The part of `coordinator.toml` that is needed to ask."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ops_host: str = "127.0.0.1"
    ops_port: int = 8444


class _File(BaseModel):
    """The part of `client.toml` that is needed to look."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    health_file: str = ""


class _Check(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    ok: bool
    detail: str = ""


class _Ready(BaseModel):
    """What /readyz answers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    checks: Mapping[str, _Check] = {}


def local(directory: Path, environment: Mapping[str, str], clock: Clock) -> Judged:
    """Judge the process that works in `directory`.  Raises BadConfiguration if there is no folder of ours."""
    for folder in (directory / "coordinator", directory):
        if (folder / "coordinator.toml").is_file():
            return _coordinator(folder / "coordinator.toml", environment)
    named = environment.get("UNISONO_HEALTH_FILE", "")
    if named:
        return judged(Path(named), clock.wall())
    for folder in (directory / "client", directory):
        settings = folder / "client.toml"
        if settings.is_file():
            told = read_toml(settings.read_bytes(), str(settings), _File)
            return judged(Path(told.health_file) if told.health_file else folder / FILE, clock.wall())
    raise BadConfiguration(
        f"neither a coordinator nor a client has its folder in {directory}\n"
        "  give the folder that `unisono init` or `unisono join` made: --dir DIR"
    )


def _coordinator(file: Path, environment: Mapping[str, str]) -> Judged:
    ops = Layers(file.read_bytes(), str(file), environment).into(_Ops)
    if ops.ops_port <= 0:
        raise BadConfiguration(
            f"{file}: ops_port = {ops.ops_port}, so the coordinator cannot be asked from here\n"
            "  set a port, or ask with the operator's certificate: unisono health --dir DIR"
        )
    host = _EVERYWHERE.get(ops.ops_host, ops.ops_host)
    where = f"{host}:{ops.ops_port}"
    connection = HTTPConnection(host, ops.ops_port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        return _ready(reply.status, reply.read(65_536))
    except (OSError, HTTPException) as error:
        return Judged(False, f"the coordinator does not answer on {where}: {error}")
    finally:
        connection.close()


def _ready(status: int, body: bytes) -> Judged:
    try:
        told = _Ready.model_validate_json(body)
    except ValidationError:
        return Judged(False, f"/readyz answers {status} and not how the coordinator is")
    wrong = [f"{name}: {check.detail or 'not ok'}" for name, check in told.checks.items() if not check.ok]
    if status == 200 and not wrong:
        return Judged(True, "the coordinator is ready")
    return Judged(False, f"the coordinator is not ready: {'; '.join(wrong) or told.status}")
