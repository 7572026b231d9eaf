"""Lists in a document that has to fit into one message."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def fitting(items: Iterable[T], size: Callable[[T], int], most_bytes: int) -> Iterator[T]:
    """Yield the first item whatever its size in bytes, and then as many as there is room for."""
    left = most_bytes
    for number, item in enumerate(items):
        left -= size(item)
        if left < 0 and number:
            return
        yield item
