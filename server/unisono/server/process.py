"""The coordinator as a process: opens the folder, serves until it is told to stop, leaves a clean state."""

import asyncio
import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path

import structlog

from unisono.base.errors import BadConfiguration
from unisono.base.memory import tame
from unisono.base.system_clock import SystemClock
from unisono.crypto import AtRest, SealingKey, encode, sha256_hex, system_entropy
from unisono.identity import Authority, check_key, sealing_public, spki_sha256
from unisono.server.blobs import LocalDir, Spool
from unisono.server.config import Config
from unisono.server.enrolment import Ledger
from unisono.server.enrolment.receipts_key import audit_key, receipts_key
from unisono.server.ops.application import Ops
from unisono.server.ops.port import OpsPort
from unisono.server.runtime.acceptance import Acceptance
from unisono.server.runtime.coordinator import Coordinator
from unisono.server.runtime.hall import Hall
from unisono.server.runtime.logs import configure
from unisono.server.runtime.operators import Operators
from unisono.server.runtime.presence import Presence
from unisono.server.runtime.receipts import Receipts
from unisono.server.runtime.sums import Sums
from unisono.server.runtime.workers import Workers
from unisono.server.services.server import bind, build
from unisono.server.services.tls import ServerCertificate
from unisono.server.store import Store, open_store
from unisono.server.tracking import open_recorder
from unisono.telemetry.meters import Meters

from .folder import Folder, read_private, reading

log = structlog.get_logger("unisono.serve")
_AT_REST = "at_rest_key_sha256"
MOST_FILES = 1 << 20  # what kernels allow where no limit is set


def run(directory: Path, flags: Mapping[str, object]) -> int:
    """Serve; return 0 after SIGTERM, 130 after SIGINT.  Raises BadConfiguration before anything is served."""
    tame()
    folder = Folder.find(directory)
    text = folder.config.read_bytes() if folder.config.exists() else b""
    config = Config.load(text, str(folder.config), os.environ, flags)
    if not config.hosts:
        raise BadConfiguration(
            f"{folder.config} does not say under which names clients reach the coordinator\n"
            '  write, for example: hosts = ["fl.example.org"]'
        )
    configure(config)
    _allow_many_files()
    return asyncio.run(_serve(folder, config))


def _allow_many_files() -> None:
    """Use as many open files as this process may have: each client has a connection."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = min(hard, MOST_FILES) if hard != resource.RLIM_INFINITY else MOST_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def open_hall(folder: Folder, config: Config) -> Hall:
    """Put the parts together.  Raises BadConfiguration if another coordinator has the folder."""
    clock = SystemClock()
    authority, sealing = _authority(folder), _sealing_key(folder, clock.wall())
    key_file = Path(config.key_file) if config.key_file else folder.at_rest_key
    with reading(key_file, "the key for files at rest"):
        key = read_private(key_file, "the key for files at rest")
        at_rest = AtRest(key)
    _check_not_lost(folder)
    store, meters = open_store(folder.path, at_rest), Meters()  # first of all that writes: it holds the lock
    with reading(key_file, "the key for files at rest"):
        _check_at_rest_key(store, key)
    blobs = LocalDir(folder.blobs, at_rest, system_entropy)
    tracking = open_recorder(config.tracking, folder.path, blobs, clock)
    with reading(folder.receipts_key, "the key for receipts, or receipts.pem beside it,"):
        signing, certificate = receipts_key(folder, authority, clock.wall())
        check_key(signing, certificate)
    audit_key(store, certificate, clock.wall())
    return Hall(
        config=config,
        clock=clock,
        entropy=system_entropy,
        authority=authority,
        sealing_key=sealing,
        sealing_certificate=folder.sealing.read_bytes(),
        store=store,
        ledger=Ledger(store),
        blobs=blobs,
        spool=Spool(folder.spool, config.max_update_bytes),
        presence=Presence(clock, 2 * config.long_poll_seconds + 5, config.max_says_per_second),
        workers=Workers(config.worker_threads),
        sums=Sums(sealing, meters),
        meters=meters,
        tracking=tracking,
        receipts=Receipts(spki_sha256(authority.certificate_pem), signing, certificate, store),
    )


def _check_not_lost(folder: Folder) -> None:
    """Refuse to begin anew where a database was: `init` made one, and it knows who may do what."""
    if not folder.database.exists() or folder.database.stat().st_size == 0:
        raise BadConfiguration(
            f"{folder.database} is empty or was lost\n"
            "  restore the whole folder from a backup; a new federation is made by: unisono init"
        )


def _authority(folder: Folder) -> Authority:
    with reading(folder.ca_key, "the CA's key, or ca.pem beside it,"):
        return Authority.from_pem(read_private(folder.ca_key, "the CA's key"), folder.ca.read_bytes())


def _sealing_key(folder: Folder, now: float) -> SealingKey:
    """Return the key that updates are sealed to; sites are shown its certificate, so both must fit."""
    with reading(folder.sealing_key, "the sealing key, or sealing.pem beside it,"):
        key = SealingKey.from_bytes(read_private(folder.sealing_key, "the sealing key"))
        if sealing_public(folder.sealing.read_bytes(), folder.ca.read_bytes(), now) != key.public:
            raise BadConfiguration("the certificate is for another key")
        return key


def _check_at_rest_key(store: Store, key: bytes) -> None:
    """Tell another key from the one that everything here was written with, before more is written."""
    found = sha256_hex(encode("at-rest key", key))
    known = store.get_meta(_AT_REST)
    if known is None:
        store.put_meta(_AT_REST, found)
    elif known != found:
        raise BadConfiguration("it is another key than the one that this folder was written with")


async def _serve(folder: Folder, config: Config) -> int:
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(status: int) -> None:
        if not stopped.done():
            stopped.set_result(status)

    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        asyncio.get_running_loop().add_signal_handler(number, stop, status)
    hall = open_hall(folder, config)
    ops: OpsPort | None = None
    watched: asyncio.Task[None] | None = None
    try:
        coordinator = Coordinator(hall)
        certificate = ServerCertificate(
            hall.authority, config.hosts, config.server_certificate_life, hall.clock
        )
        server = build(hall, coordinator)
        port = bind(server, certificate, config.host, config.port)
        ops = OpsPort(config) if config.ops_port >= 0 else None
        await coordinator.open()
        await server.start()
        print(
            f'coordinator of "{hall.authority.federation}" listens on port {port}, '
            f"{hall.ledger.enrolled()} clients enrolled, {len(hall.runs)} runs going on",
            flush=True,
        )
        if ops is not None:
            watched = asyncio.create_task(ops.serve(_ops(hall, coordinator, certificate, ops.token)))
            print(f"  dashboard    {ops.address}", flush=True)
            if ops.token:
                print(f"               asks for the token in {config.ops_token_file}", flush=True)
        for problem in hall.problems:
            print(f"  problem      {problem}", flush=True)
        log.info("listening", port=port, hosts=config.hosts, folder=str(folder.path))
        status = await stopped
        print("stopping; runs go on when the coordinator is started again", flush=True)
        for bells in (hall.bells, hall.watchers):
            bells.close()  # nobody waits for what will not come
        if ops is not None:
            ops.close()
        await server.stop(config.shutdown_seconds)
        await coordinator.close()
        return status
    finally:
        await _closed(ops, watched)
        hall.workers.close()
        hall.store.close()
        if hall.tracking is not None:
            hall.tracking.close()


def _ops(hall: Hall, coordinator: Coordinator, certificate: ServerCertificate, token: bytes) -> Ops:
    return Ops(hall, Operators(hall, coordinator, Acceptance(hall)), certificate, token)


async def _closed(ops: OpsPort | None, watched: "asyncio.Task[None] | None") -> None:
    """End the ops port; what it still answers has a second."""
    if ops is not None:
        ops.close()
    if watched is not None:
        await watched
