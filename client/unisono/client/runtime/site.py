"""Puts a client together from its folder: the parts, their keys, their order of closing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom

from unisono import strategies
from unisono.base.clock import Clock
from unisono.base.errors import BadConfiguration
from unisono.base.ids import Digest
from unisono.client.config import Config
from unisono.client.policy import Policy
from unisono.crypto import AtRest, SigningKey
from unisono.identity import check_key, peer_of, spki_sha256

from .allowance import Allowance
from .approvals import Approvals
from .attempts import Attempts
from .cache import Cache
from .channel import Credentials
from .driver import Driver, Parts
from .examining import Examiner
from .files import folder_lock, naming
from .halt import Halt
from .inviting import Member
from .knowledge import Judgement, Knowledge
from .link import Capabilities, Link
from .place import place_of
from .receipts import Receipts
from .reporting import Show
from .secure import Disk, Protection
from .trainer_process import TrainerProcess
from .training import Workbench
from .vault import Vault

PROTOCOL = (1, 1)
PROTECTIONS = ("secagg", "sealed")  # what this version can do; the policy may allow more


@dataclass(frozen=True, slots=True)
class World:
    """What is outside of a client: who watches, the time, and the end."""

    show: Show
    clock: Clock
    halt: Halt


@contextmanager
def opened(
    folder: Path, config: Config, policy: Policy, world: World, protocol: tuple[int, int] = PROTOCOL
) -> Iterator[Driver]:
    """Yield a driver, ready to run.  Raises BadConfiguration if the folder has not joined, or is in use."""
    clock, halt = world.clock, world.halt
    key = vault_key(folder)
    with folder_lock(folder):
        vault = Vault(folder, clock)
        try:
            identity = vault.identity()
            if identity is None:
                raise not_joined(folder) if not (folder / "tls.pem").exists() else _forgotten(folder)
            cache = Cache(folder / "cache", key)
            attempts = Attempts(vault, key, place_of(folder / "state.db"))
            approvals = Approvals(folder)
            judgement = Judgement(config, policy, approvals, clock)
            identified = signing_key(folder)
            member = Member(identity.name, identified, identified.public, ca_of(folder), policy, judgement)
            disk = Disk(vault, attempts, cache, Examiner(cache, key), AtRest(key), approvals)
            protection = Protection(member, disk, world.show)
            trainer = TrainerProcess(folder / "trainer.log", config.trainer_idle_seconds, clock, halt)
            can = Capabilities(
                tasks=tuple(sorted(config.tasks)),
                protections=tuple(mode for mode in PROTECTIONS if mode in policy.protections),
                strategies=tuple(strategies.known()),
                protocol=protocol,
                upload_limit=round(config.network.rate or 0.0),
                hours=config.network.hours,
            )
            parts = Parts(
                folder=folder,
                config=config,
                link=Link(partial(Credentials.read, folder, "tls"), config.coordinator, can, clock, halt),
                vault=vault,
                cache=cache,
                knowledge=Knowledge(judgement, vault, cache, protection.known),
                protection=protection,
                approvals=approvals,
                receipts=Receipts(vault, identity.name, (folder / "ca.pem").read_bytes(), world.show),
                workbench=Workbench(config, vault, cache, trainer, key, config.number or identity.number),
                allowance=Allowance(config.network, clock, halt),
                clock=clock,
                halt=halt,
                share_log_tail=policy.share_log_tail,
            )
            yield Driver(parts, world.show, SystemRandom())
        finally:
            vault.close()


def signing_key(folder: Path) -> SigningKey:
    """Return the site's identity."""
    path = folder / "signing.key"
    try:
        with naming(path, "restore it from a backup; without it this site joins under a new name"):
            key = SigningKey.from_bytes(path.read_bytes())
            check_key(key, (folder / "signing.pem").read_bytes())
    except FileNotFoundError:
        raise not_joined(folder) from None
    return key


def ca_of(folder: Path) -> Digest:
    """Return the fingerprint of the federation's CA."""
    return spki_sha256((folder / "ca.pem").read_bytes())


def vault_key(folder: Path) -> bytes:
    """Return the key of the files in cache/."""
    path = folder / "vault.key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        raise not_joined(folder) from None
    with naming(path, "restore it from a backup, with state.db of the same"):
        AtRest(key)
    return key


def name_of(folder: Path) -> str:
    """Return the site's name as its certificate has it."""
    return peer_of(Credentials.read(folder, "tls").certificate).name


def _forgotten(folder: Path) -> BadConfiguration:
    """Say that the keys are there and what was done with them is not known."""
    return BadConfiguration(
        f"{folder / 'state.db'} does not know this site, whose keys lie beside it: it is empty or was lost\n"
        "  restore it from a backup, or join again with a new token: name and identity stay"
    )


def not_joined(folder: Path) -> BadConfiguration:
    """Say what is missing and how to get it."""
    return BadConfiguration(
        f"{folder} has not joined a federation\n"
        "  ask the operator for a token, then: unisono join HOST:PORT --token FILE --dir DIR"
    )
