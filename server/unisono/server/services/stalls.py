"""Ends what stands still: a stream that opens and sends nothing, and one whose reader does not read.

Only the peer's time counts, never ours: who waits for its turn has nothing to fear.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from unisono.base.errors import Unavailable

T = TypeVar("T")


async def timely(source: AsyncIterator[T], seconds: float) -> AsyncGenerator[T, None]:
    """Yield what comes.  Raises Unavailable when nothing does for so long; what came before stays."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                item = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Unavailable(f"nothing came for {seconds:g} s: the stream is ended", 1.0) from None
        yield item


class Still:
    """Cancels the task of a stream whose peer takes nothing for so long."""

    def __init__(self, seconds: float, task: "asyncio.Task[object]") -> None:
        self._seconds, self._task = seconds, task

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Give the peer its time to take one piece."""
        timer = asyncio.get_running_loop().call_later(self._seconds, self._task.cancel)
        try:
            yield
        finally:
            timer.cancel()
