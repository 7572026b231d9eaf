"""A join token before it is used, and an address of which nothing more is known."""

from collections.abc import Iterator
from pathlib import Path

from unisono.base.errors import Error
from unisono.client.config import Config
from unisono.client.config import address as checked_address
from unisono.client.runtime.channel import Credentials
from unisono.client.runtime.site import PROTOCOL
from unisono.identity import JoinToken, check_token, peer_of
from unisono.probe import Ask, Finding, Subject, Target, config_failure, ok, versions, walk, warning
from unisono.probe.validity import when

from .asking import answered, with_token


def token(ask: Ask, joined: Path | None) -> Subject:
    """Look at a token; `joined` is the folder of the site, if it is one already."""
    return Subject("token", "", None, _token(ask, joined))


def bare(ask: Ask) -> Subject:
    """Look at the way to an address, with nothing in hand."""
    return Subject("address", ask.address, None, _bare(ask))


def _token(ask: Ask, joined: Path | None) -> Iterator[Finding]:
    wall = ask.clock.wall()
    try:
        found = JoinToken.decode(ask.token or "")
        known = (joined / "ca.pem").read_bytes() if joined and (joined / "ca.pem").exists() else None
        check_token(found, wall, known)
        until = when(peer_of(found.certificate_pem).not_after)
        words = f'for {found.name} of federation "{found.federation}", can be used until {until}'
        yield ok("token", words)
    except Error as error:
        yield config_failure("token", error)
        return
    address = _address(ask, joined)
    if not address:
        yield warning("token", "whether it was used can only be asked", "give the coordinator: HOST:PORT")
        return
    try:
        target = Target.at(checked_address(address), wall, ask.environment, found.ca_pem)
    except Error as error:
        yield config_failure("address", error)
        return
    reached = True
    for finding in walk(target, ask.say):
        reached = reached and not finding.failed
        yield finding
    if reached:
        ask.say(f"asking {target.address}")
        mine = Credentials(found.ca_pem, found.certificate_pem, found.key.to_pem())
        yield from answered(with_token, mine, target.address, ask.clock)


def _address(ask: Ask, joined: Path | None) -> str:
    if ask.address or joined is None:
        return ask.address
    try:
        file = joined / "client.toml"
        return Config.load(file.read_bytes(), str(file), ask.environment).coordinator
    except Error:  # the site's own checks say what is wrong with it
        return ""


def _bare(ask: Ask) -> Iterator[Finding]:
    yield versions(PROTOCOL)
    try:
        target = Target.at(checked_address(ask.address), ask.clock.wall(), ask.environment, None)
    except Error as error:
        yield config_failure("address", error)
        return
    yield from walk(target, ask.say)
