"""Who is in the federation: tokens, clients, revocation; and the coordinator's health."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unisono.base.errors import BadConfiguration
from unisono.base.ids import is_name
from unisono.base.system_clock import SystemClock
from unisono.base.units import seconds, show_bytes
from unisono.cli.options import Dir, Json
from unisono.cli.output import note, print_json

from .words import ago, columns, day, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .documents import Client, Health, Token


def create_token(
    name: Annotated[str | None, typer.Argument(help="Name the client will have.", show_default=False)] = None,
    ttl: Annotated[str, typer.Option(help="How long the token can be used.")] = "24h",
    uses: Annotated[int, typer.Option(min=1, max=100_000, help="How many clients may use it.")] = 1,
    prefix: Annotated[
        str, typer.Option("--name-prefix", help="With --uses: clients are called PREFIX-1, PREFIX-2 ...")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the token to this file (mode 0600).")
    ] = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="With -o: leave FILE as it is while its token can be used; else renew it."
        ),
    ] = False,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Make a join token: one line of text that lets one client in, once, under the name given here.

    Whoever holds it can join in that name, so send it as you would send a password.
    """
    wanted, lifetime = _token_name(name, prefix, uses), seconds(ttl)
    if once and output is None:
        raise BadConfiguration("--once needs the token's file\n  give it: -o FILE")
    if output is not None and output.exists() and not once:
        raise BadConfiguration(f"{output} exists already\n  give another name: -o FILE")
    from .connection import connect

    with connect(directory) as coordinator:
        if once and output is not None and output.exists():
            usable = [token for token in coordinator.list_tokens().value.tokens if token.name == wanted]
            if any(_lasts(token, SystemClock().wall(), lifetime) for token in usable):
                note(f"{output} holds a token for {wanted} that can be used; it stays")
                return
        made = coordinator.create_token(wanted, lifetime, uses)
        address = coordinator.coordinator
    if output is not None:
        output.unlink(missing_ok=True)
        _write_secret(output, made.token)
    if as_json:
        where = {"file": str(output)} if output else {"token": made.token}
        print_json({"name": wanted, "uses": uses, "not_after": made.not_after, **where})
        return
    if output is None:
        print(made.token)
    if output is not None or sys.stdout.isatty():
        file = output or "FILE"
        whom = wanted if uses == 1 else f"{uses} clients ({wanted}-1, {wanted}-2 ...)"
        note(f"token for {whom}, can be used until {stamp(made.not_after)}")
        note(f"  there: unisono join {address} --token {file} --dir DIR")


def list_tokens(directory: Dir = Path(), as_json: Json = False) -> None:
    """List the tokens that can still be used."""
    from .connection import connect

    with connect(directory) as coordinator:
        answer = coordinator.list_tokens()
    if as_json:
        print_json(answer.raw)
    elif not answer.value.tokens:
        print("no token can be used now; make one: unisono token create NAME")
    else:
        rows = [(t.name, f"{t.used} of {t.uses}", day(t.not_after)) for t in answer.value.tokens]
        print(columns(rows, ("name", "used", "until")))


def clients(directory: Dir = Path(), as_json: Json = False) -> None:
    """List the clients: who is online, what they offer, when their certificates end."""
    from .connection import connect

    with connect(directory) as coordinator:
        answer = coordinator.list_clients()
    if as_json:
        print_json(answer.raw)
    elif not answer.value.clients:
        print("nobody has joined yet; let one in: unisono token create NAME")
    else:
        now = SystemClock().wall()
        head = ("number", "name", "state", "seen", "certificate until", "tasks", "software")
        print(columns((_client_row(client, now) for client in answer.value.clients), head))


def revoke(
    name: Annotated[str | None, typer.Argument(help="The client's name.", show_default=False)] = None,
    operator: Annotated[
        str, typer.Option(metavar="NAME", help="Instead: an operator, with all its certificates.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Kept in the audit log.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="With --operator: even the last who can operate the federation.")
    ] = False,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Shut a client out: its next call is refused, an upload under way too.

    Only a new token for its name lets it in again.  With --operator: every certificate issued to that
    operator so far is refused from now on, and the open tokens that it made.
    """
    if (name is None) == (not operator):
        raise BadConfiguration(
            "give either a client's NAME or --operator NAME\n"
            "  unisono revoke hospital-a   or   unisono revoke --operator operator"
        )
    if force and not operator:
        raise BadConfiguration("--force is for operators only\n  unisono revoke --operator NAME --force")
    from .connection import connect

    with connect(directory) as coordinator:
        if name is not None:
            raw = coordinator.revoke(name, reason)
        else:
            raw = coordinator.revoke_operator(operator, reason, force=force)
    if as_json:
        print_json(raw)
    elif name is not None:
        print(f"{name} is revoked: its next call is refused")
    else:
        print(_operator_words(operator, raw))


def health(directory: Path, as_json: bool) -> int:
    """Ask the coordinator how it is, for `unisono health` (`unisono.cli.health`)."""
    from .connection import connect

    with connect(directory) as coordinator:
        answer = coordinator.health()
    if as_json:
        print_json(answer.raw)
    else:
        print(_health_words(answer.value, coordinator.coordinator))
    return 0 if answer.value.status == "ok" else 1


def _operator_words(name: str, raw: "Mapping[str, object]") -> str:
    certificates, tokens = raw.get("certificates", 0), raw.get("tokens", 0)
    return (
        f"operator {name} is revoked: {certificates} certificates and {tokens} open tokens are refused now\n"
        "  look for clients that you do not know: unisono clients"
    )


def _token_name(name: str | None, prefix: str, uses: int) -> str:
    match name, prefix:
        case None, "":
            raise BadConfiguration("a token needs the name of its client\n  unisono token create hospital-a")
        case str(), str() if name and prefix:
            raise BadConfiguration(f'give NAME ("{name}") or --name-prefix ("{prefix}"), not both')
        case str(), "" if uses > 1:
            raise BadConfiguration(
                f'--uses {uses} makes {uses} clients, which cannot all be called "{name}"\n'
                f"  unisono token create --uses {uses} --name-prefix {name}"
            )
    wanted = name or prefix
    if not is_name(wanted):
        raise BadConfiguration(
            f'"{wanted[:80]}" cannot be a client\'s name\n'
            "  use lower-case letters, digits, '.', '_' and '-', at most 63, first and last a letter or digit"
        )
    return wanted


def _lasts(token: "Token", now: float, lifetime: float) -> bool:
    """Tell whether an open token is good for a while: a tenth of its life, and one more client."""
    left = (token.not_after or 0.0) - now
    return token.used < token.uses and left > lifetime / 10


def _write_secret(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(text + "\n")


def _client_row(client: "Client", now: float) -> tuple[object, ...]:
    seen = "now" if client.state == "online" else ago(client.last_seen, now)
    tasks = ", ".join(client.tasks) or "-"
    return client.number, client.name, client.state, seen, day(client.not_after), tasks, client.software


def _health_words(health: "Health", address: str) -> str:
    free = f", {show_bytes(health.disk_free_bytes)} disk free" if health.disk_free_bytes is not None else ""
    until = health.certificate_not_after
    lines = [
        f'{address} is {health.status}: federation "{health.federation}", version {health.software}',
        f"  {health.clients_online} of {health.clients_enrolled} clients online, "
        f"{health.runs_active} active runs{free}" + (f", certificate until {day(until)}" if until else ""),
    ]
    return "\n".join([*lines, *(f"  attention: {problem}" for problem in health.problems)])
