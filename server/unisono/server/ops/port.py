"""One more socket on the event loop.  Signals stay the coordinator's; an error here ends an answer only."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import structlog
import uvicorn

from unisono.base.errors import BadConfiguration
from unisono.server.config import Config
from unisono.server.folder import read_private

from .application import Ops
from .connection import Connection
from .door import MAX_HEADERS

log = structlog.get_logger("unisono.ops")
MIN_TOKEN = 16  # characters
_BACKLOG = 64


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever embeds a server keeps its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class OpsPort:
    """The port: bound when made, answering while `serve` runs."""

    def __init__(self, config: Config) -> None:
        """Bind.  Raises BadConfiguration if the port is taken, or would be open to others without a token."""
        self.token = _token(config)
        if not self.token and not is_loopback(config.ops_host):
            raise BadConfiguration(
                f"ops_host = {config.ops_host!r} would show runs and clients to whoever reaches this port\n"
                "  set ops_token_file to a file with a token, or keep 127.0.0.1 behind a reverse proxy"
            )
        self._socket = _bound(config.ops_host, config.ops_port)
        self._server: _Server | None = None
        self._ops: Ops | None = None
        self.host, self.port = config.ops_host, int(self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Return what to open in a browser on this machine."""
        host = "localhost" if is_loopback(self.host) or self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def serve(self, ops: Ops) -> None:
        """Answer until `close`.  Never raises: a coordinator without this port still coordinates."""
        config = uvicorn.Config(
            ops.application(),
            log_config=None,
            log_level="critical",  # what goes wrong in a request is logged where it happens
            access_log=False,
            lifespan="off",
            http=Connection,
            ws="none",
            h11_max_incomplete_event_size=MAX_HEADERS,
            timeout_graceful_shutdown=1,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        self._server, self._ops = _Server(config), ops
        try:
            await self._server.serve([self._socket])
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("ops_port_failed", port=self.port)

    def close(self) -> None:
        """Stop answering; what streams ends."""
        if self._ops is not None:
            self._ops.live.close()
        if self._server is not None:
            self._server.should_exit = True
        else:
            self._socket.close()


def is_loopback(host: str) -> bool:
    """Tell whether an address reaches this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)
        found.setblocking(False)
    except OSError as error:
        found.close()
        raise BadConfiguration(
            f"cannot listen on {host}:{port} for the dashboard: {(error.strerror or str(error)).lower()}\n"
            "  end the other program, or choose another port: unisono serve --ops-port N (-1: none)"
        ) from None
    return found


def _token(config: Config) -> bytes:
    if not config.ops_token_file:
        return b""
    token = read_private(Path(config.ops_token_file), "the token of the ops port").strip()
    if len(token) < MIN_TOKEN or not token.isascii():
        raise BadConfiguration(
            f"{config.ops_token_file}: a token of {len(token)} characters; {MIN_TOKEN} or more are needed\n"
            f"  make one: openssl rand -hex 32 > {config.ops_token_file}"
        )
    return token
