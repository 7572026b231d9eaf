"""Joining a federation: the site's keys are made here and never leave; the token vouches for them once."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

from unisono.base.clock import Clock
from unisono.base.errors import BadConfiguration, BadCredentials, Unavailable, Unreachable
from unisono.base.ids import ClientName
from unisono.client.config import address as checked_address
from unisono.client.session.backoff import delay
from unisono.crypto import SigningKey, TlsKey, system_entropy
from unisono.identity import (
    JoinToken,
    check_issued,
    check_key,
    check_token,
    peer_of,
    request,
    signer_of,
    spoken,
)
from unisono.probe import OtherHost
from unisono.wire.v1 import enrolment_pb2, enrolment_pb2_grpc

from .channel import Credentials, call, open_channel
from .diagnosis import look, worded
from .files import private_folder, swap_pair, write_private
from .link import SOFTWARE, TIMEOUT
from .status import Untrusted
from .vault import Identity, Vault

Reply = TypeVar("Reply")
MOST_WAIT = 300.0  # seconds that joining waits for its turn, where many sites join at once


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a person wants to know after joining."""

    federation: str
    name: ClientName
    coordinator: str
    not_after: float  # wall, of the TLS certificate
    fingerprint: str  # of the signing key, as it is read out on the phone
    again: bool  # the site was a member before


def enrol(
    folder: Path, address: str, token_text: str, clock: Clock, sleep: Callable[[float], None] = time.sleep
) -> Enrolled:
    """Join, or join again after an expiry: name and signing key then stay.

    May be repeated after a lost reply: the keys are on the disk before they are certified, so the
    coordinator sees the same request again.  Raises BadCredentials (which of: used, expired, altered, of
    another federation), or if the certificate of the federation's coordinator lacks the address's name;
    Unreachable.
    """
    token, address = JoinToken.decode(token_text), checked_address(address)
    vault = Vault(private_folder(folder), clock)
    try:
        before = vault.identity()
        known_ca = (folder / "ca.pem").read_bytes() if before else None
        check_token(token, clock.wall(), known_ca)
        if before is not None and token.name != before.name:
            raise BadConfiguration(
                f'{folder} belongs to {before.name}; the token is for "{token.name}"\n  use another --dir'
            )
        tls, signing = _pending_key(folder), _signing_key(folder)
        reply = _ask(token, address, (tls, signing), clock, sleep)
        _check(reply, token, tls, signing, clock.wall())
        fingerprint = signer_of(reply.signing_certificate, token.ca_pem, clock.wall()).fingerprint
        _keep(folder, address, token, tls, reply)
        vault.joined(Identity(reply.federation, ClientName(reply.name), reply.number), fingerprint)
    finally:
        vault.close()
    not_after = peer_of(reply.tls_certificate).not_after
    return Enrolled(
        reply.federation, ClientName(reply.name), address, not_after, spoken(fingerprint), before is not None
    )


def patiently(ask: Callable[[], Reply], sleep: Callable[[float], None]) -> Reply:
    """Ask again when a busy coordinator says when; give up once it has asked for MOST_WAIT seconds in all."""
    waited = 0.0
    while True:
        try:
            return ask()
        except Unreachable:
            raise
        except Unavailable as busy:
            pause = delay(0, SystemRandom().random(), at_least=busy.retry_after)
            if (waited := waited + pause) > MOST_WAIT:
                raise
            sleep(pause)


def _ask(
    token: JoinToken,
    address: str,
    keys: tuple[TlsKey, SigningKey],
    clock: Clock,
    sleep: Callable[[float], None],
) -> enrolment_pb2.EnrolReply:
    tls, signing = keys
    credentials = Credentials(token.ca_pem, token.certificate_pem, token.key.to_pem())
    wanted = enrolment_pb2.EnrolRequest(tls_csr=request(tls), signing_csr=request(signing), software=SOFTWARE)
    with open_channel(credentials, address, clock) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        try:
            return patiently(lambda: call(stub.Enrol, wanted, TIMEOUT, address), sleep)
        except Unreachable as error:
            found = look(address, token.ca_pem, clock.wall())
            if found is not None and found.family is OtherHost:  # trying again would not change its names
                raise BadCredentials(f"cannot join at {address}: {found.words}\n  {found.advice}") from error
            if not isinstance(error, Untrusted) or (found is not None and found.family is Unreachable):
                raise worded(error, address, found) from error
            # The token brought the CA, so it is the token that does not fit.
            raise BadCredentials(
                f'the join token is of federation "{token.federation}", {address} is not its coordinator:\n'
                "  its TLS certificate is not from that federation's CA, has expired, or names another host\n"
                "  check the address, or ask the operator of the federation at it for a token"
            ) from error


def _check(
    reply: enrolment_pb2.EnrolReply, token: JoinToken, tls: TlsKey, signing: SigningKey, wall: float
) -> None:
    """Raise BadCredentials unless both certificates are ours, of this federation, and of one name."""
    for certificate, key in ((reply.tls_certificate, tls), (reply.signing_certificate, signing)):
        check_issued(certificate, token.ca_pem, wall)
        check_key(key, certificate)
    names = {
        peer_of(reply.tls_certificate).name,
        signer_of(reply.signing_certificate, token.ca_pem, wall).name,
    }
    if names != {reply.name}:
        raise BadCredentials(f"the coordinator certified {', '.join(sorted(names))} and says {reply.name}")


def _keep(folder: Path, address: str, token: JoinToken, tls: TlsKey, reply: enrolment_pb2.EnrolReply) -> None:
    """Write everything; what marks the folder as joined comes last."""
    if not (folder / "vault.key").exists():
        write_private(folder / "vault.key", system_entropy(32))
    write_private(folder / "ca.pem", token.ca_pem)
    write_private(folder / "signing.pem", reply.signing_certificate)
    swap_pair(folder, "tls", tls.to_pem(), reply.tls_certificate)
    _write_address(folder / "client.toml", address)
    (folder / "pending.key").unlink()


def _pending_key(folder: Path) -> TlsKey:
    """Return the TLS key of a join that has not been answered, or a new one."""
    path = folder / "pending.key"
    if not path.exists():
        write_private(path, TlsKey.generate().to_pem())
    return TlsKey.from_pem(path.read_bytes())


def _signing_key(folder: Path) -> SigningKey:
    """Return the site's identity: made once, kept for good."""
    path = folder / "signing.key"
    if not path.exists():
        write_private(path, SigningKey.generate(system_entropy).to_bytes())
    return SigningKey.from_bytes(path.read_bytes())


def _write_address(path: Path, address: str) -> None:
    """Set the one key that joining decides; a person's other lines stay as they are."""
    line = f'coordinator = "{address}"\n'
    old = path.read_text() if path.exists() else ""
    text, found = re.subn(r"(?m)^coordinator\s*=.*\n?", line, old, count=1)
    write_private(path, (text if found else line + old).encode())
