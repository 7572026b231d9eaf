"""How the processes of a chaos run reach each other: network namespaces, or loopback where those are refused.

Under namespaces the coordinator and every client have one of their own, with one cable to a hub:

    client i 10.231.i.2 --- 10.231.i.1 hub, a relay each, 10.231.100.1 --- 10.231.100.2 coordinator

All of it lives in a namespace that `chaos.py` has entered before, together with its mounts and its process
numbers: when that process ends, however it ends, nothing is left of it.  Over loopback a client talks to a
relay at a port of its own; darkness is then the relay's to play.
"""

import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from typing import Protocol

from relay import Relay, Relays
from timetable import COORDINATOR

PORT = 8443
_HUB = 100  # the coordinator's subnet


class Cables(Protocol):
    """What a stage needs of the network."""

    names: tuple[str, ...]  # that clients dial, for the server certificate
    port: int  # of the coordinator
    relays: dict[str, Relay]

    def address(self, client: str) -> str:
        """Return where `client` finds its coordinator: "host:port"."""
        ...

    def inside(self, who: str) -> list[str]:
        """Return the words before a command that is to run at `who`'s place."""
        ...

    def dark(self, who: str, on: bool) -> None:
        """Let nothing pass to and from `who`, or let it pass again."""
        ...

    def close(self) -> None: ...


def relays_of(cables: Cables, who: str) -> list[Relay]:
    """Return the links of `who`: a client's one, or all for the coordinator."""
    return list(cables.relays.values()) if who == COORDINATOR else [cables.relays[who]]


@dataclass(slots=True)
class Loopback:
    """One machine, one network: everybody on 127.0.0.1."""

    clients: tuple[str, ...]
    port: int = 0
    names: tuple[str, ...] = ("localhost",)
    relays: dict[str, Relay] = field(default_factory=dict)
    _thread: Relays = field(default_factory=Relays)

    def __post_init__(self) -> None:
        self.port = free_port()
        for client in self.clients:
            self.relays[client] = self._thread.add(("127.0.0.1", 0), ("127.0.0.1", self.port))

    def address(self, client: str) -> str:
        return f"localhost:{self.relays[client].address[1]}"

    def inside(self, who: str) -> list[str]:
        del who
        return []

    def dark(self, who: str, on: bool) -> None:
        for relay in relays_of(self, who):
            if on:
                relay.dark()
            else:
                relay.heal()

    def close(self) -> None:
        self._thread.close()


@dataclass(slots=True)
class Namespaces:
    """A namespace each.  Only inside a network namespace of our own: see `chaos.py`."""

    clients: tuple[str, ...]
    port: int = PORT
    names: tuple[str, ...] = ()
    relays: dict[str, Relay] = field(default_factory=dict)
    _thread: Relays = field(default_factory=Relays)

    def __post_init__(self) -> None:
        _ip("link", "set", "lo", "up")
        self._place(COORDINATOR, _HUB)
        self.names = ("localhost",)
        for number, client in enumerate(self.clients, 1):
            self._place(client, number)
            here = (f"10.231.{number}.1", self.port)
            self.relays[client] = self._thread.add(here, (f"10.231.{_HUB}.2", self.port))
            self.names += (here[0],)

    @staticmethod
    def _place(who: str, number: int) -> None:
        """Make a namespace with a cable to the hub."""
        _ip("netns", "add", who)
        _ip("link", "add", f"hub-{number}", "type", "veth", "peer", "name", "uplink", "netns", who)
        _ip("address", "add", f"10.231.{number}.1/24", "dev", f"hub-{number}")
        _ip("link", "set", f"hub-{number}", "up")
        _ip("-n", who, "address", "add", f"10.231.{number}.2/24", "dev", "uplink")
        for device in ("lo", "uplink"):
            _ip("-n", who, "link", "set", device, "up")

    def address(self, client: str) -> str:
        return f"10.231.{self.clients.index(client) + 1}.1:{self.port}"

    def inside(self, who: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{who}"]

    def dark(self, who: str, on: bool) -> None:
        """Pull the hub's end of a cable: packets vanish, no connection is told, the relays are not either."""
        number = _HUB if who == COORDINATOR else self.clients.index(who) + 1
        _ip("link", "set", f"hub-{number}", "down" if on else "up")

    def close(self) -> None:
        self._thread.close()


def namespaces_work() -> bool:
    """Tell whether this user may make namespaces with cables between them, here and now; leaves nothing."""
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip", "mount")):
        return False
    trial = (
        "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip netns add trial && "
        "ip link add hub type veth peer name uplink netns trial && ip link set lo up"
    )
    done = subprocess.run([*unshared(), "sh", "-c", trial], capture_output=True, check=False)
    return done.returncode == 0


def unshared() -> list[str]:
    """Return the words that run a command in a network, mounts and process numbers of its own."""
    return ["unshare", "-n", "-m", "-p", "-f", "--propagation", "private", "--mount-proc", "--kill-child"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
