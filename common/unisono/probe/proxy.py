"""Which proxy gRPC goes through, and the tunnel through it.

gRPC reads `grpc_proxy`, `https_proxy`, `http_proxy` in this order and `no_grpc_proxy`, `no_proxy`, in lower
case only, takes http:// proxies only, and goes straight when it cannot read one (its core,
http_proxy_mapper.cc); so what curl or a browser do here may differ.
"""

import base64
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_MOST = 8192  # bytes of an answer to CONNECT


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where CONNECT is sent, and which variable says so."""

    host: str
    port: int
    variable: str
    login: str = field(default="", repr=False)


class Refusal(Exception):
    """The proxy's own words: a status line, or that it said none."""


@dataclass(frozen=True, slots=True)
class Route:
    """How gRPC goes: through `proxy`, or straight; `remark` says what was set and does not count."""

    proxy: Proxy | None = None
    remark: str = ""


def proxy_for(host: str, environment: Mapping[str, str]) -> Route:
    """Return the way to `host` that gRPC takes in this environment."""
    variable = next((name for name in VARIABLES if name in environment), None)
    if variable is None:
        upper = next((n.upper() for n in VARIABLES if environment.get(n.upper())), None)
        return Route(None, f"{upper} is set, but gRPC reads {upper.lower()} only" if upper else "")
    value = environment[variable]
    if not value:
        return Route()
    proxy = _read(value, variable)
    if proxy is None:
        return Route(None, f"{variable} is set, but names no http:// proxy: gRPC goes straight")
    if (rule := _excepted(host, environment)) is not None:
        return Route(None, f"{variable} does not count here: {rule}")
    return Route(proxy)


def tunnel(through: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask the proxy for a connection to host:port.  Raises Refusal, OSError."""
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {at} HTTP/1.1", f"Host: {at}"]
    if proxy.login:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(proxy.login.encode()).decode()}")
    through.sendall("\r\n".join([*lines, "", ""]).encode())
    said = b""
    while b"\r\n\r\n" not in said and len(said) < _MOST:
        data = through.recv(1)  # not one byte of what follows, which is TLS
        if not data:
            break
        said += data
    first = said.split(b"\r\n", 1)[0].decode("latin-1")
    words = first.split(" ", 2)
    if not first.startswith("HTTP/") or len(words) < 2:
        raise Refusal(f"it closes the connection, or is no HTTP proxy ({len(said)} bytes)")
    if words[1] != "200":
        raise Refusal(" ".join(words[1:])[:100])


def _read(value: str, variable: str) -> Proxy | None:
    try:
        parts = urlsplit(value)
        port = parts.port or 80
    except ValueError:
        return None
    if parts.scheme != "http" or not parts.hostname:
        return None
    login = unquote(parts.username or "")
    if login and parts.password is not None:
        login += ":" + unquote(parts.password)
    return Proxy(parts.hostname, port, variable, login)


def _excepted(host: str, environment: Mapping[str, str]) -> str | None:
    """Return the entry that lets `host` go straight."""
    name = next((name for name in EXCEPTIONS if name in environment), None)
    for entry in environment.get(name or "", "").split(","):
        wanted = entry.strip()
        if wanted and (host.lower().endswith(wanted.lower()) or _within(host, wanted)):
            return f"{name} has {wanted}"
    return None


def _within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
