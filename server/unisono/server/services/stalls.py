"""Ends a stream that opens and sends nothing.  Only the peer's time counts, never its time in our line.

One whose reader does not read cannot be ended from here: gRPC sends no status before the message that waits
for room.  Such streams are counted instead (`max_downloads_per_client`): each holds some 3 MB, and no turn.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
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
