"""Makes a federation's folders."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unisono.base.errors import BadConfiguration
from unisono.base.ids import is_name
from unisono.crypto import SealingKey, TlsKey, system_entropy
from unisono.identity import Authority, peer_of, request
from unisono.server.config import Config
from unisono.server.enrolment import Ledger
from unisono.server.store import open_store

from .folder import Folder, write_private

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Founded:
    """What was made, and where."""

    federation: str
    coordinator: Path
    admin: Path


def found(directory: Path, hosts: Sequence[str], port: int, federation: str, now: float) -> Founded:
    """Write DIR/coordinator and DIR/admin.  Raises BadConfiguration and leaves nothing behind."""
    if not is_name(federation):
        raise BadConfiguration(
            f'"{federation}" cannot name a federation; use lower-case letters, digits, ., _ and -'
        )
    if not hosts:
        raise BadConfiguration("a coordinator needs a name or address under which clients reach it: --host")
    config = Config.load(flags={"hosts": tuple(hosts), "port": port})
    made = Founded(federation, directory / "coordinator", directory / "admin")
    for path in (made.coordinator, made.admin):
        if path.exists():
            raise BadConfiguration(f"{path} exists already\n  choose another folder, or remove it first")
    try:
        _write(made, config, now)
    except BaseException as error:
        for path in (made.coordinator, made.admin):
            shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, OSError):
            raise BadConfiguration(f"cannot make {directory}: {error.strerror or error}") from None
        raise
    return made


def _write(made: Founded, config: Config, now: float) -> None:
    for path in (made.coordinator, made.admin):
        path.mkdir(parents=True)
        path.chmod(0o700)
    folder = Folder(made.coordinator)
    authority = Authority.create(made.federation, now)
    sealing = SealingKey.generate(system_entropy)
    write_private(folder.ca_key, authority.key_pem)
    write_private(folder.ca, authority.certificate_pem)
    write_private(folder.sealing_key, sealing.to_bytes())
    write_private(folder.sealing, authority.issue_sealing(sealing.public, now))
    write_private(folder.at_rest_key, system_entropy(32))
    hosts = json.dumps(list(config.hosts))
    write_private(folder.config, f"hosts = {hosts}\nport = {config.port}\n".encode())
    _write_admin(made, authority, config, now)
    for path in (made.coordinator, made.admin, made.admin.parent):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _write_admin(made: Founded, authority: Authority, config: Config, now: float) -> None:
    key = TlsKey.generate()
    certificate = authority.issue_tls(request(key), "admin", OPERATOR, now, config.admin_certificate_life)
    write_private(made.admin / "admin.key", key.to_pem())
    write_private(made.admin / "admin.pem", certificate)
    write_private(made.admin / "ca.pem", authority.certificate_pem)
    host = config.hosts[0]
    address = json.dumps(f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}")
    write_private(made.admin / "admin.toml", f"coordinator = {address}\n".encode())
    store = open_store(made.coordinator)
    try:
        Ledger(store).issued(peer_of(certificate), now)
    finally:
        store.close()
