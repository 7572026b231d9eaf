"""How often anybody may try to join: each try costs signatures and a write."""

from unisono.base.clock import Clock
from unisono.base.errors import Unavailable
from unisono.base.pacing import Bucket

MINUTE = 60.0
MOST_ADDRESSES = 1024  # whose tries are remembered


class Joins:
    """A bucket for each address, and one for all; a minute's worth may come at once."""

    def __init__(self, per_address: float, in_all: float, clock: Clock) -> None:
        self._rate, self._clock = per_address / MINUTE, clock
        self._all = Bucket(in_all / MINUTE, in_all)
        self._addresses: dict[str, Bucket] = {}

    def admit(self, peer: str) -> None:
        """Count a try.  Raises Unavailable with the seconds until the next one would be heard.

        A try that its address has no allowance for takes nothing of what all have.
        """
        now, address = self._clock.ticks(), address_of(peer)
        bucket = self._addresses.get(address)
        if bucket is None:
            self._forget(now)
            bucket = self._addresses[address] = Bucket(self._rate, self._rate * MINUTE)
        if wait := bucket.spend(now):
            raise Unavailable(f"too many tries to join from {address}", wait)
        if wait := self._all.spend(now):
            raise Unavailable("too many tries to join", wait)

    def _forget(self, now: float) -> None:
        """Make room: addresses with nothing to remember first, then those remembered for longest."""
        if len(self._addresses) < MOST_ADDRESSES:
            return
        for address in [a for a, bucket in self._addresses.items() if bucket.full(now)]:
            del self._addresses[address]
        while len(self._addresses) >= MOST_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]


def address_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer; of IPv6 the 64 bits that a site is given."""
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    if kind != "ipv6" or host.startswith("::ffff:"):
        return host
    head, gap, _ = host.partition("::")
    groups = head.split(":") if head else []
    return ":".join((groups + ["0"] * 4)[:4] if gap else groups[:4]) + "::/64"
