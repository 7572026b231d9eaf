"""Makes a federation's folders."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from unisono.base.errors import BadConfiguration
from unisono.base.ids import is_name
from unisono.crypto import SealingKey, TlsKey, system_entropy
from unisono.identity import Authority, peer_of, request
from unisono.server.config import Config
from unisono.server.enrolment import Ledger
from unisono.server.enrolment.receipts_key import receipts_key
from unisono.server.store import open_store

from .folder import Folder, read_private, write_private

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Founded:
    """What was made, and where."""

    federation: str
    coordinator: Path
    admin: Path
    again: bool = False  # the federation was there, only the operator's folder is new
    kept: bool = False  # all was there; nothing is new


def found_once(directory: Path, hosts: Sequence[str], port: int, federation: str, now: float) -> Founded:
    """Do as `found`, but leave a federation that is there as it is, if it is reached under these names.

    For containers, which say the same at every start.
    """
    made = Founded(federation, directory / "coordinator", directory / "admin", kept=True)
    if not _is_whole(Folder(made.coordinator)) or _is_empty(made.admin):
        return found(directory, hosts, port, federation, now)
    folder = Folder(made.coordinator)
    known = Config.load(folder.config.read_bytes(), str(folder.config)).hosts
    if missing := [host for host in hosts if host not in known]:
        raise BadConfiguration(
            f"the coordinator in {made.coordinator} is reached as {', '.join(known)}, "
            f"not as {', '.join(missing)}\n  add the name to hosts in {folder.config}"
        )
    authority = Authority.from_pem(read_private(folder.ca_key, "the CA's key"), folder.ca.read_bytes())
    return replace(made, federation=authority.federation)


def found(directory: Path, hosts: Sequence[str], port: int, federation: str, now: float) -> Founded:
    """Write DIR/coordinator and DIR/admin.  Raises BadConfiguration and leaves nothing behind.

    Where only the operator's folder is missing (lost, or its certificate expired), it is made anew.  Empty
    folders are taken for missing: a container's volumes are there before anything is in them.
    """
    if not is_name(federation):
        raise BadConfiguration(
            f'"{federation}" cannot name a federation; use lower-case letters, digits, ., _ and -'
        )
    if not hosts:
        raise BadConfiguration("a coordinator needs a name or address under which clients reach it: --host")
    config = Config.load(flags={"hosts": tuple(hosts), "port": port})
    made = Founded(federation, directory / "coordinator", directory / "admin")
    if _is_whole(Folder(made.coordinator)) and _is_empty(made.admin):
        return _with_operator(made, hosts[0], now)
    for path in (made.coordinator, made.admin):
        if not _is_empty(path):
            raise BadConfiguration(f"{path} exists already\n  choose another folder, or remove it first")
    with _or_nothing(made.coordinator, made.admin):
        _write(made, config, now)
    return made


def _is_empty(path: Path) -> bool:
    """Tell whether nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _is_whole(folder: Folder) -> bool:
    files = (folder.ca_key, folder.ca, folder.sealing_key, folder.sealing, folder.at_rest_key, folder.config)
    return all(file.is_file() for file in files)


def _with_operator(made: Founded, host: str, now: float) -> Founded:
    """Make the operator's folder anew; whoever has the CA's key may.  The coordinator must not run."""
    folder = Folder(made.coordinator)
    config = Config.load(folder.config.read_bytes(), str(folder.config))
    if host not in config.hosts:
        known = ", ".join(config.hosts)
        raise BadConfiguration(f"the coordinator in {made.coordinator} is reached as {known}, not as {host}")
    hosts = (host, *(other for other in config.hosts if other != host))
    authority = Authority.from_pem(read_private(folder.ca_key, "the CA's key"), folder.ca.read_bytes())
    with _or_nothing(made.admin):
        made.admin.mkdir(mode=0o700, exist_ok=True)
        made.admin.chmod(0o700)
        _write_admin(made, authority, config.model_copy(update={"hosts": hosts}), now)
        _sync(made.admin, made.admin.parent)
    return replace(made, federation=authority.federation, again=True)


@contextmanager
def _or_nothing(*folders: Path) -> Iterator[None]:
    """Remove the folders if what makes them fails."""
    try:
        yield
    except BaseException as error:
        for path in folders:
            shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise  # the command line knows what to say of those
        if isinstance(error, OSError):
            raise BadConfiguration(f"cannot make {folders[0].parent}: {error.strerror or error}") from None
        raise


def _write(made: Founded, config: Config, now: float) -> None:
    for path in (made.coordinator, made.admin):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    folder = Folder(made.coordinator)
    authority = Authority.create(made.federation, now)
    sealing = SealingKey.generate(system_entropy)
    write_private(folder.ca_key, authority.key_pem)
    write_private(folder.ca, authority.certificate_pem)
    write_private(folder.sealing_key, sealing.to_bytes())
    write_private(folder.sealing, authority.issue_sealing(sealing.public, now))
    write_private(folder.at_rest_key, system_entropy(32))
    receipts_key(folder, authority, now)
    hosts = json.dumps(list(config.hosts))
    write_private(folder.config, f"hosts = {hosts}\nport = {config.port}\n".encode())
    _write_admin(made, authority, config, now)
    _sync(made.coordinator, made.admin, made.admin.parent)


def _sync(*folders: Path) -> None:
    for path in folders:
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
