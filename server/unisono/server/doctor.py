"""Checks of a coordinator's folder, whether it runs or not.  Reads only; the coordinator is not disturbed."""

import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from unisono.base.errors import BadConfiguration, Error
from unisono.identity import Authority
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
    warning,
)
from unisono.probe.validity import NOTICEABLE, show_span, when

from .config import Config
from .folder import Folder, read_private
from .services.server import PROTOCOLS
from .store.migrating import known_versions

OPEN_FILES = 4096  # a connection each, and what the database and the spool have open
_AGAIN = "the federation must be set up again: ten years are over"
_LOCAL = {"localhost", "127.0.0.1", "::1"}


def examine(ask: Ask) -> Iterator[Subject]:
    """Yield the coordinator in the folder, if there is one."""
    try:
        folder = Folder.find(ask.directory)
    except BadConfiguration:
        return
    yield Subject("coordinator", "", folder.path, _coordinator(folder, ask))


def _coordinator(folder: Folder, ask: Ask) -> Iterator[Finding]:
    config = Config()
    try:
        text = folder.config.read_bytes() if folder.config.exists() else b""
        config = Config.load(text, str(folder.config), ask.environment)
        yield ok("settings", f"coordinator.toml can be read; port {config.port}")
    except Error as error:
        yield config_failure("settings", error)
    yield from _keys(folder, config, ask.clock.wall())
    yield _database(folder.database, ask.clock.wall())
    yield from machine(folder.path, config.min_free_bytes, OPEN_FILES, PROTOCOLS)
    yield from _names(config)
    yield from _served(folder, config, ask)


def _keys(folder: Folder, config: Config, wall: float) -> Iterator[Finding]:
    """Look at the CA and at the files that nobody else may read."""
    at_rest = Path(config.key_file) if config.key_file else folder.at_rest_key
    try:
        Authority.from_pem(read_private(folder.ca_key, "the CA's key"), folder.ca.read_bytes())
        read_private(folder.sealing_key, "the sealing key")
        read_private(at_rest, "the key for files at rest")
        yield ok("keys", "CA, sealing and at-rest keys can be read, by this user only")
    except Error as error:
        yield config_failure("keys", error)
    for what, who, file in (
        ("CA", "of the federation", folder.ca),
        ("sealing", "of the sealing key", folder.sealing),
    ):
        try:
            yield certificate_life(what, who, file.read_bytes(), wall, _AGAIN, renewed=False)
        except OSError as error:
            yield failure(
                what, f"cannot read {file}: {error.strerror}", "restore it from a backup", BadConfiguration
            )
        except Error as error:
            yield config_failure(what, error)


def _database(file: Path, wall: float) -> Finding:
    """Look at the schema, and at the time of what was written last: it should be past."""
    if not file.exists():
        return failure("database", f"{file} does not exist", "restore it from a backup", BadConfiguration)
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            (schema,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            (last,) = connection.execute("SELECT max(wall) FROM audit").fetchone()
    except (sqlite3.Error, TypeError) as error:
        return failure("database", f"{file}: {error}", "restore it from a backup", Error)
    newest = known_versions()[-1]
    if schema > newest:
        words = f"schema {schema}, written by a later version; this one knows schemas up to {newest}"
        return failure("database", words, "install the later version", BadConfiguration)
    if last is not None and last > wall + NOTICEABLE:
        words = (
            f"this machine's clock ({when(wall)}) is {show_span(last - wall)} behind what was written last"
        )
        return failure("clock", words, "set it by NTP (timedatectl set-ntp true)", Error)
    return ok(
        "database",
        f"schema {schema}" + ("" if schema == newest else f", brought to {newest} at the next start"),
    )


def _names(config: Config) -> Iterator[Finding]:
    """Look the names up under which clients are to reach it."""
    if not config.hosts:
        advice = 'set hosts = ["fl.example.org"] in coordinator.toml'
        yield failure("name", "no name or address stands in the certificate", advice, BadConfiguration)
        return
    if set(config.hosts) <= _LOCAL:
        advice = "add the name that sites dial to hosts in coordinator.toml"
        yield warning("name", f"only this machine reaches it as {', '.join(config.hosts)}", advice)
        return
    for host in config.hosts:
        try:
            found = {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
            yield ok("name", f"{host} is {', '.join(sorted(found))}")
        except OSError as error:
            advice = "sites may see another DNS than this machine; if they do not, make an entry"
            yield warning("name", f"{host} is not known here: {error.strerror}", advice)


def _served(folder: Folder, config: Config, ask: Ask) -> Iterator[Finding]:
    """Say whether it runs, and shake hands with it if it does."""
    holder = _holder(folder.lock)
    if holder is None:
        yield _port("port", config.host, config.port, "set another port in coordinator.toml and at the sites")
        if config.ops_port > 0:
            advice = "set another ops_port in coordinator.toml; -1: no dashboard"
            yield _port("dashboard", config.ops_host, config.ops_port, advice)
        yield warning(
            "process", "the coordinator does not run", f"start it: unisono serve --dir {ask.directory}"
        )
        return
    yield ok("process", f"the coordinator runs (process {holder})")
    if not config.port or not config.hosts:
        return
    here = "127.0.0.1" if config.host in {"0.0.0.0", "::"} else config.host  # noqa: S104 - compared, not bound
    target = Target(config.hosts[0], config.port, ask.clock.wall(), ask.environment, folder.ca.read_bytes())
    yield from walk(replace(target, dialled=here), ask.say)


def _holder(lock: Path) -> str | None:
    """Return the process that has the folder, if one has."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "of unknown number"
    finally:
        os.close(descriptor)
    return None


def _port(what: str, host: str, port: int, advice: str) -> Finding:
    """Try whether a port can be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            words = f"port {port} cannot be had: {error.strerror}"
            return failure(what, words, f"end the program that has it, or {advice}", BadConfiguration)
    return ok(what, f"{port} is free")
