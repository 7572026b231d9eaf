"""Whether the coordinator can work: database, disk, certificates."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import Protocol, TypedDict

from unisono.base.errors import Error
from unisono.base.units import show_bytes
from unisono.identity import expiry
from unisono.server.runtime.hall import Hall

PATIENCE = 5.0  # seconds for each check; the database's one thread may be busy with a round
_DAY = 86_400.0


class Certificate(Protocol):
    """The coordinator's own, renewed in time."""

    def current(self) -> bytes:
        """Return it, in PEM."""
        ...


class Check(TypedDict):
    """One thing that has to be well."""

    ok: bool
    detail: str


class Ready(TypedDict):
    """The document of /readyz."""

    status: str  # ready, not ready
    checks: dict[str, Check]


async def ready(hall: Hall, certificate: Certificate) -> Ready:
    """Look at the database, the disk and the certificates."""
    checks = {
        "database": await _checked(lambda: _database(hall)),
        "disk": await _checked(lambda: hall.workers.file(_disk, hall)),
        "certificate": await _checked(lambda: hall.workers.file(_certificate, hall, certificate)),
    }
    well = all(check["ok"] for check in checks.values())
    return Ready(status="ready" if well else "not ready", checks=checks)


async def _checked(look: Callable[[], Awaitable[Check]]) -> Check:
    try:
        async with asyncio.timeout(PATIENCE):
            return await look()
    except TimeoutError:
        return Check(ok=False, detail=f"no answer within {PATIENCE:g} s")
    except (Error, OSError, RuntimeError) as error:
        return Check(ok=False, detail=str(error))


async def _database(hall: Hall) -> Check:
    await hall.workers.database(hall.store.active)
    return Check(ok=True, detail=f"answers; {len(hall.runs)} runs go on")


def _disk(hall: Hall) -> Check:
    free, least = shutil.disk_usage(hall.blobs.root).free, hall.config.min_free_bytes
    if free < least:
        words = f"{show_bytes(free)} free, uploads are put off below {show_bytes(least)}: make room"
        return Check(ok=False, detail=words)
    return Check(ok=True, detail=f"{show_bytes(free)} free")


def _certificate(hall: Hall, certificate: Certificate) -> Check:
    now = hall.clock.wall()
    ends = {"ca": expiry(hall.authority.certificate_pem), "server": expiry(certificate.current())}
    which, first = min(ends.items(), key=lambda item: item[1])
    days = (first - now) / _DAY
    if days <= 0:
        return Check(ok=False, detail=f"the {which} certificate ended {-days:.1f} days ago")
    return Check(ok=True, detail=f"the {which} certificate ends in {days:.0f} days")
