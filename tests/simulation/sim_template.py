"""A federation that was founded once, with sites that have joined: copied for each world."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shutil import copytree, rmtree

from sim_time import START

from unisono.base.clock import ManualClock
from unisono.base.ids import ClientName
from unisono.client.runtime.files import write_private
from unisono.client.runtime.vault import Identity, Vault
from unisono.crypto import SigningKey, TlsKey, system_entropy
from unisono.identity import Authority, peer_of, request, signer_of
from unisono.server.config import Config
from unisono.server.enrolment import Ledger
from unisono.server.folder import Folder
from unisono.server.founding import found
from unisono.server.process import open_hall
from unisono.server.store import open_store

SITES = ("alder", "beech", "cedar", "daphne", "elm")
LIFE = 30 * 86_400.0
_MEMORY = Path("/dev/shm")  # noqa: S108 - a process that is killed loses nothing of it; power is CRASH's


@contextmanager
def scratch() -> Iterator[Path]:
    """Return a new folder, in memory where there is one."""
    path = Path(tempfile.mkdtemp(prefix="unisono-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    try:
        yield path
    finally:
        rmtree(path, ignore_errors=True)


@cache
def _template() -> Path:
    import atexit  # noqa: PLC0415 - once a process

    path = Path(tempfile.mkdtemp(prefix="unisono-"))
    atexit.register(rmtree, path, ignore_errors=True)
    found(path, ["localhost"], 8443, "grove", START - 60.0)
    folder = Folder.find(path)
    authority = Authority.from_pem(folder.ca_key.read_bytes(), folder.ca.read_bytes())
    store = open_store(folder.path)
    ledger = Ledger(store)
    for name in SITES:
        _enrol(path / name, name, ledger, authority)
    store.close()
    opened = open_hall(folder, Config())  # what a first start makes
    opened.workers.close()
    opened.store.close()
    return path


def _enrol(folder: Path, name: str, ledger: Ledger, authority: Authority) -> None:
    now = START - 30.0
    certificate, _ = authority.issue_bootstrap(name, now, 60.0)
    ledger.create_token(certificate, name, 1, "operator", now)
    tls, signing = TlsKey.generate(), SigningKey.generate(system_entropy)
    serial = peer_of(certificate).serial
    done = ledger.enrol(serial, authority, request(tls), request(signing), "sim", now, LIFE)
    folder.mkdir(mode=0o700)
    for file, data in (
        ("ca.pem", authority.certificate_pem),
        ("tls.key", tls.to_pem()),
        ("tls.pem", done.tls_certificate),
        ("signing.key", signing.to_bytes()),
        ("signing.pem", done.signing_certificate),
        ("vault.key", system_entropy(32)),
    ):
        write_private(folder / file, data)
    vault = Vault(folder, ManualClock())
    fingerprint = signer_of(done.signing_certificate, authority.certificate_pem, now).fingerprint
    vault.joined(Identity("grove", ClientName(name), done.number), fingerprint)
    vault.close()


@contextmanager
def federation(sites: int) -> Iterator[Path]:
    """Return a copy of it: DIR/coordinator and a folder for each of so many sites."""
    with scratch() as path:
        for name in ("coordinator", *SITES[:sites]):
            copytree(_template() / name, path / name)
        yield path
