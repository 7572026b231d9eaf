"""Fetching a model: resumed where it stopped, verified before anybody uses it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from unisono.base.errors import BadMessage, Corrupt
from unisono.base.ids import Digest

from .cache import Cache

Progress = Callable[[int, int], None]  # bytes so far, of how many
Watch = Callable[[int, bytes | memoryview], None]  # offset and bytes, as they arrive


class Source(Protocol):
    """What downloads need of the connection."""

    def download(self, digest: Digest, offset: int, take: Callable[[int, bytes | memoryview], None]) -> None:
        """Give the chunks (offset, bytes) of one stream to `take`; it need not reach the end.

        Raises our errors.
        """
        ...


def unwatched(offset: int, data: bytes | memoryview) -> None:
    """Look at nothing."""


def fetch(
    source: Source, cache: Cache, digest: Digest, size: int, progress: Progress, watch: Watch = unwatched
) -> None:
    """Put a model of `size` bytes into the cache.  Raises our errors; what arrived stays for the next try.

    A model that is not what was announced is fetched once more from the start, because a part on the disk
    may have been damaged; if that is no better, the coordinator's is wrong and Corrupt is raised.
    """
    with suppress(Corrupt):
        return _fetch(source, cache, digest, size, progress, watch)
    cache.remove(digest)
    return _fetch(source, cache, digest, size, progress, watch)


def _fetch(source: Source, cache: Cache, digest: Digest, size: int, progress: Progress, watch: Watch) -> None:
    with cache.arriving(digest, size) as arriving:

        def take(offset: int, data: bytes | memoryview) -> None:
            arriving.write(offset, data)
            watch(offset, data)
            progress(arriving.offset, size)

        while (before := arriving.offset) < size:
            source.download(digest, before, take)
            if arriving.offset == before:
                raise BadMessage(f"the model ended after {before} of {size} bytes")
        arriving.finish()
