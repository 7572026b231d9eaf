"""A site's data as batches, shuffled by a seed.

Tensors are sliced here, without a DataLoader: up to 1.6 times faster a step for small models.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

Batch = Any  # the user's own: tensors, tuples, dicts of them


@dataclass(frozen=True, slots=True)
class Feed:
    """`once()` is one pass; `steps` its number of batches, None if nobody knows."""

    once: Callable[[], Iterator[Batch]]
    steps: int | None


def feed(data: Any, size: int, device: str, order: Generator | None) -> Feed:
    """Return batches of `size` examples, shuffled by `order` (None: as they come)."""
    if isinstance(data, DataLoader):
        return _loader(data, device, order)
    columns, rows = _columns(data)
    if columns is not None:
        return _sliced(columns, rows, size, device, order)
    endless = isinstance(data, IterableDataset)
    shuffle = order is not None and not endless
    return _loader(DataLoader(data, batch_size=size, shuffle=shuffle, generator=order), device, order)


def count(batch: Batch) -> int:
    """Return the examples in a batch: the first extent of its first tensor, else its length."""
    first = next(_tensors(batch), None)
    if first is not None and first.ndim:
        return int(first.shape[0])
    inner = next(iter(batch.values())) if isinstance(batch, Mapping) else batch
    if isinstance(inner, list | tuple) and inner and isinstance(inner[0], list | tuple):
        inner = inner[0]
    return len(inner)


def _columns(data: Any) -> tuple[tuple[Tensor, ...] | None, Tensor | None]:
    """Return data as whole tensors and the rows that count, if it is that; a list is a list of examples."""
    if isinstance(data, Subset):
        columns, rows = _columns(data.dataset)
        mine = torch.as_tensor(data.indices)
        return columns, mine if rows is None else rows[mine]
    if isinstance(data, TensorDataset):
        return data.tensors, None
    if isinstance(data, tuple) and data and all(isinstance(c, Tensor | np.ndarray) for c in data):
        return tuple(torch.as_tensor(c) for c in data), None
    return None, None


def _sliced(
    columns: tuple[Tensor, ...], rows: Tensor | None, size: int, device: str, order: Generator | None
) -> Feed:
    total = len(columns[0]) if rows is None else len(rows)

    def once() -> Iterator[Batch]:
        chosen = rows
        if order is not None:
            mixed = torch.randperm(total, generator=order)
            chosen = mixed if rows is None else rows[mixed]
        for start in range(0, total, size):
            part = slice(start, start + size) if chosen is None else chosen[start : start + size]
            yield tuple(c[part].to(device) for c in columns)

    return Feed(once, -(-total // size))


def _loader(loader: DataLoader[Any], device: str, order: Generator | None) -> Feed:
    if order is not None:  # a loader's own generator remembers earlier rounds, which a restart forgets
        for owner in (loader, loader.sampler):
            own = getattr(owner, "generator", None)
            if isinstance(own, Generator):
                own.manual_seed(order.initial_seed())

    def once() -> Iterator[Batch]:
        for batch in loader:
            yield batch if device == "cpu" else _moved(batch, device)

    try:
        return Feed(once, len(loader))
    except TypeError:  # an iterable data set without a length
        return Feed(once, None)


def _moved(batch: Batch, device: str) -> Batch:
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)([_moved(value, device) for value in batch])
    return batch


def _tensors(batch: Batch) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from _tensors(value)
