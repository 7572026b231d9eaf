"""A folder with an identity in it: a site's, or an operator's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from unisono import strategies
from unisono.base.errors import BadCredentials, Error
from unisono.client import policy
from unisono.client.config import Config
from unisono.client.config import address as checked_address
from unisono.client.runtime.channel import Credentials
from unisono.client.runtime.link import Capabilities
from unisono.client.runtime.site import PROTECTIONS, PROTOCOL
from unisono.crypto import TlsKey
from unisono.identity import check_issued, check_key, peer_of
from unisono.identity.presented import period
from unisono.plan.reading import read_toml
from unisono.probe import (
    Ask,
    Finding,
    Subject,
    Target,
    certificate_life,
    config_failure,
    failure,
    machine,
    ok,
    walk,
)

from .asking import Question, answered, as_operator, as_site

LEAST_FREE = 250_000_000  # bytes on a site's disk: a model and an update of a common size
OPEN_FILES = 256
_NEW_TOKEN = "ask the operator for a new token: unisono join with it keeps the name and the identity"  # noqa: S105 - advice
_NEW_OPERATOR = (
    "on the coordinator's machine: stop it, move DIR/admin away, unisono init DIR --host HOST, start it"
)


class _Dialled(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    coordinator: str


def site(folder: Path, ask: Ask) -> Subject:
    """Look at a site that has joined."""
    return Subject("site", _name(folder, "tls"), folder, _site(folder, ask))


def operator(folder: Path, ask: Ask) -> Subject:
    """Look at an operator's folder."""
    return Subject("operator", _name(folder, "admin"), folder, _operator(folder, ask))


def _site(folder: Path, ask: Ask) -> Iterator[Finding]:
    settings, rules = folder / "client.toml", folder / "policy.toml"
    config: Config | None = None
    can = Capabilities((), (), ())
    try:
        config = Config.load(settings.read_bytes(), str(settings), ask.environment)
        agreed = policy.parse(rules.read_bytes() if rules.exists() else b"", str(rules))
        modes = tuple(mode for mode in PROTECTIONS if mode in agreed.protections)
        can = Capabilities(tuple(sorted(config.tasks)), modes, tuple(strategies.known()), PROTOCOL)
        yield ok("settings", f"client.toml{' and policy.toml' if rules.exists() else ''} can be read")
    except Error as error:
        yield config_failure("settings", error)
    yield from machine(folder, LEAST_FREE, OPEN_FILES, PROTOCOL)
    address = ask.address or (config.coordinator if config else "")
    yield from _member(folder, "tls", address, ask, as_site(can))


def _operator(folder: Path, ask: Ask) -> Iterator[Finding]:
    file, address = folder / "admin.toml", ask.address
    try:
        found = read_toml(file.read_bytes(), str(file), _Dialled).coordinator
        address = address or found
        yield ok("settings", "admin.toml can be read")
    except Error as error:
        yield config_failure("settings", error)
    yield from _member(folder, "admin", address, ask, as_operator)


def _member(folder: Path, stem: str, address: str, ask: Ask, question: Question) -> Iterator[Finding]:
    """Look at the certificates, then at the way to the coordinator, then ask it."""
    wall, mine = ask.clock.wall(), None
    try:
        mine = Credentials.read(folder, stem)
        yield from _certificates(mine, stem, wall)
    except Error as error:
        yield config_failure("certificate", error)
    if not address:
        return
    try:
        ca = mine.ca if mine else None
        target = Target.at(checked_address(address), wall, ask.environment, ca)
    except Error as error:
        yield config_failure("settings", error)
        return
    valid = mine is not None and peer_of(mine.certificate).not_after > wall
    if valid:
        target = replace(target, pair=(folder / f"{stem}.pem", folder / f"{stem}.key"))
    reached = True
    for finding in walk(target, ask.say):
        reached = reached and not finding.failed
        yield finding
    if mine is not None and valid and reached:
        ask.say(f"asking {target.address}")
        yield from answered(question, mine, target.address, ask.clock)


def _certificates(mine: Credentials, stem: str, wall: float) -> Iterator[Finding]:
    peer = peer_of(mine.certificate)
    way_out = _NEW_TOKEN if stem == "tls" else _NEW_OPERATOR
    yield certificate_life("certificate", f"of {peer.name}", mine.certificate, wall, way_out, renewed=True)
    try:
        check_key(TlsKey.from_pem(mine.key), mine.certificate)
    except Error as error:
        yield failure("certificate", str(error), way_out, BadCredentials)
    again = "the federation must be set up again: ask its operator"
    yield certificate_life("CA", "of the federation", mine.ca, wall, again, renewed=False)
    starts = max(period(pem)[0] for pem in (mine.ca, mine.certificate))
    if starts <= wall < peer.not_after:  # else it has been said
        try:
            check_issued(mine.certificate, mine.ca, wall)
        except BadCredentials as error:
            yield failure("certificate", str(error), way_out, BadCredentials)


def _name(folder: Path, stem: str) -> str:
    try:
        return peer_of((folder / f"{stem}.pem").read_bytes()).name
    except (Error, OSError):
        return "unknown"
