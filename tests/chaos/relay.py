"""TCP relays in a thread of their own: links that can be cut, slowed down, forgotten and darkened at will.

A relay knows nothing of what it carries.  It counts the bytes that went up: what a resumed upload saves is
measured here, outside of the program that claims to save it.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_READ = 1 << 16
_LEAST, _TICK = 256, 0.05  # bytes, seconds: what a slow link carries at a time
_LATE = 1.0  # seconds that a busy machine has slept too long and may make up for
_QUEUED = 64  # pieces between reader and writer: 4 MB, more than 2 MB/s need for 200 ms
_LINGER_RST = struct.pack("ii", 1, 0)  # close() then sends a reset


@dataclass(eq=False, slots=True)
class _Pair:
    """One connection: both sockets and the tasks that carry."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    frozen: bool = False
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def freeze(self) -> None:
        """Forget it: both ends believe that it is there, nothing moves any more."""
        self.frozen = True
        for task in self.tasks:
            task.cancel()

    def reset(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST
                    )
                writer.transport.abort()
        for task in self.tasks:
            task.cancel()


class Relay:
    """One link: a listening address and the address behind it.  Its methods may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listen: tuple[str, int], to: tuple[str, int]) -> None:
        self._loop, self._listen, self._to = loop, listen, to
        self._pairs: set[_Pair] = set()
        self._dark, self._delay, self._cut_after = False, 0.0, 0
        self._up_rate = self._down_rate = 0.0
        self._free = {True: 0.0, False: 0.0}  # when the way up, and down, has carried what it was given
        self._server: asyncio.Server | None = None
        self.up, self.down, self.opened, self.cuts = 0, 0, 0, 0

    @property
    def address(self) -> tuple[str, int]:
        assert self._server is not None
        host, port, *_ = self._server.sockets[0].getsockname()
        return host, port

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, *self._listen, limit=_READ)

    def cut(self) -> None:
        """Reset every connection."""
        self._tell(self._cut)

    def cut_after(self, up: int) -> None:
        """Reset every connection once so many bytes more have gone up; 0: no more."""
        self._tell(lambda: setattr(self, "_cut_after", self.up + up if up else 0))

    def slow(self, delay: float, rate: float, up: float | None = None) -> None:
        """Hold every piece for `delay` seconds and let `rate` bytes a second pass; 0: as fast as it goes.

        `up` is the rate of the way up where that is another one.
        """
        self._tell(lambda: self._pace(delay, rate, rate if up is None else up))

    def forget(self) -> None:
        """Let every connection of now hang for ever: half-open at both ends."""
        self._tell(self._freeze)

    def dark(self) -> None:
        """Let nothing pass, new connections neither."""
        self._tell(self._darken)

    def heal(self) -> None:
        """Be an honest link again.  What was forgotten is reset, as by a router that knows it no longer."""
        self._tell(self._heal)

    def _tell(self, what: Callable[[], None]) -> None:
        done = threading.Event()

        def do() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(do)
        if not done.wait(10):
            raise RuntimeError("the relays' thread does not answer")

    def _cut(self) -> None:
        self.cuts += len(self._pairs)
        for pair in list(self._pairs):
            pair.reset()

    def _pace(self, delay: float, down: float, up: float) -> None:
        self._delay, self._down_rate, self._up_rate = delay, down, up

    def _freeze(self) -> None:
        for pair in self._pairs:
            pair.freeze()

    def _darken(self) -> None:
        self._dark = True
        self._freeze()

    def _heal(self) -> None:
        self._dark = False
        self._pace(0.0, 0.0, 0.0)
        for pair in [pair for pair in self._pairs if pair.frozen]:
            pair.reset()
            self._pairs.discard(pair)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(writer, frozen=self._dark)
        self._pairs.add(pair)
        if pair.frozen:
            return
        try:
            far_reader, far = await asyncio.wait_for(asyncio.open_connection(*self._to), 5)
        except (OSError, TimeoutError):
            pair.reset()
            self._pairs.discard(pair)
            return
        pair.far = far
        self.opened += 1
        if pair.frozen:
            return
        pair.tasks = [
            asyncio.create_task(self._carry(reader, far, up=True)),
            asyncio.create_task(self._carry(far_reader, writer, up=False)),
        ]
        await asyncio.wait(pair.tasks, return_when=asyncio.ALL_COMPLETED)
        if not pair.frozen:
            pair.reset()
            self._pairs.discard(pair)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        """Carry one direction: a reader that stamps, a queue that holds, a writer that waits its time."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        sending, late = asyncio.create_task(self._send(queue, writer)), 0.0
        try:
            while not writer.is_closing():
                rate = self._up_rate if up else self._down_rate
                if not (data := await reader.read(_portion(rate))):
                    break
                if up:
                    self._count(len(data))
                else:
                    self.down += len(data)
                leaves = now = self._loop.time()
                if rate:  # read no faster than it leaves: what waits here would be lost by a cut
                    leaves = self._free[up] = max(self._free[up], now - late) + len(data) / rate
                    await asyncio.sleep(leaves - now)
                    late = min(_LATE, max(0.0, self._loop.time() - leaves))
                await queue.put((max(leaves, now) + self._delay, data))
            await queue.put((self._loop.time() + self._delay, b""))
            await sending
        except OSError:
            pass  # one end has gone; the other is told below
        finally:
            sending.cancel()
        with suppress(OSError):
            if writer.can_write_eof() and not writer.transport.is_closing():
                writer.write_eof()

    async def _send(self, queue: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            if (left := due - self._loop.time()) > 0:
                await asyncio.sleep(left)
            if not data:
                return
            writer.write(data)
            with suppress(OSError):
                await writer.drain()

    def _count(self, size: int) -> None:
        self.up += size
        if self._cut_after and self.up >= self._cut_after:
            self._cut_after = 0
            self._loop.call_soon(self._cut)

    async def close(self) -> None:
        for pair in list(self._pairs):
            pair.reset()
        if self._server is not None:
            self._server.close()


def _portion(rate: float) -> int:
    """Return how much to read at a time: a slow link trickles, it does not give 64 KB every few seconds."""
    return min(_READ, max(_LEAST, int(rate * _TICK))) if rate else _READ


class Relays:
    """The thread that all relays live in."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._thread.start()
        self._all: list[Relay] = []

    def add(self, listen: tuple[str, int], to: tuple[str, int]) -> Relay:
        relay = Relay(self._loop, listen, to)
        asyncio.run_coroutine_threadsafe(relay.open(), self._loop).result(10)
        self._all.append(relay)
        return relay

    def close(self) -> None:
        async def close() -> None:
            for relay in self._all:
                await relay.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
