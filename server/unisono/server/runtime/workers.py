"""The coordinator's threads: one for the database, a few for files, one for sums, and all cores at once.

Anything that may take more than a millisecond runs here, so that the event loop only moves messages.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
CORES = min(8, len(os.sched_getaffinity(0)))  # each that is at work has some MiB of scratch


def at_once(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do one piece of work for each item, as many at a time as there are cores.  Raises what one raises."""
    with ThreadPoolExecutor(CORES, "cores") as pool:
        for _ in pool.map(work, items):
            pass


class Workers:
    """Bounded pools."""

    def __init__(self, files: int = 4) -> None:
        self._database = ThreadPoolExecutor(1, "database")
        self._files = ThreadPoolExecutor(files, "files")
        self._sums = ThreadPoolExecutor(1, "sums")

    async def database(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in the one thread that writes to the database."""
        return await self._run(self._database, lambda: work(*args, **kwargs))

    async def file(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run beside other file work."""
        return await self._run(self._files, lambda: work(*args, **kwargs))

    async def open(self, work: Callable[[], T], release: Callable[[T], None]) -> T:
        """Open a file; if whoever waits for it is gone by then, `release` it again."""
        opening = asyncio.get_running_loop().run_in_executor(self._files, work)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: _released(done, release))
            raise

    async def sum(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in the one thread that adds: nothing else touches the sums, so they need no lock."""
        return await self._run(self._sums, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """Finish what runs; take nothing new."""
        for pool in (self._files, self._sums, self._database):
            pool.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    async def _run(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _released(done: asyncio.Future[T], release: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        release(done.result())
