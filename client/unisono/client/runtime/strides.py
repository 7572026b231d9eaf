"""How much of a transfer one stream carries: all of it, until a connection broke under it.

On a slow line with large buffers (a kernel's, a router's, a proxy's) gRPC's pings stand behind what was sent,
and their answer comes too late: the connection is taken for dead and made anew, again and again.  So after a
break a stream carries only what passes within seconds, until the line is known to be fast.  HTTP/2's windows
would not do: they let a whole message of 1 MiB pass, and are fixed for the life of a connection.
"""

from dataclasses import dataclass

UNBOUND = 1 << 62
LEAST = 16 << 10  # bytes
SECONDS, FAST = 4.0, 2e6  # that a stream should take; bytes a second of a line without trouble


@dataclass(slots=True)
class Strides:
    """What was learnt of one direction of a line; it is kept for as long as the process runs."""

    first: int  # bytes of the stream after the first break
    size: int = UNBOUND  # bytes that the next stream should carry

    @property
    def bound(self) -> bool:
        """Tell whether a stream is to be shorter than what there is to carry."""
        return self.size != UNBOUND

    def arrived(self, count: int, seconds: float) -> None:
        """Note that a stream's bytes have arrived: that is what the line really carries."""
        if not self.bound:
            return
        rate = count / max(1e-3, seconds)
        fitting = min(round(rate * SECONDS), 4 * self.size)
        least = LEAST if count >= self.size else self.size  # the end of a file says nothing of the line
        self.size = UNBOUND if rate > FAST else max(least, fitting)

    def broke(self) -> None:
        """Note that the connection broke under a stream."""
        self.size = max(LEAST, min(self.first, self.size // 2))
