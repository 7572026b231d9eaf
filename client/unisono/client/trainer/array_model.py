"""A model of plain NumPy arrays: no torch anywhere."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import BadConfiguration
from unisono.crypto.buffers import flat
from unisono.tensors import DTYPES, Bytes, Entry

_NAMES = {np.dtype(d.storage): d.name for d in DTYPES.values() if d.name != "BF16"}


class ArrayModel:
    """Floating arrays travel, others stay.  The arrays are used where they are, never copied."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.made = made
        for name, array in made.items():
            if not isinstance(array, np.ndarray) or array.dtype not in _NAMES:
                kind = getattr(array, "dtype", type(array).__name__)
                raise BadConfiguration(
                    f'model()["{name}"] is {kind}; known are {", ".join(map(str, _NAMES))}'
                )
            if not (array.flags.c_contiguous and array.flags.writeable):
                made[name] = np.array(array, order="C")

    def entries(self) -> tuple[Entry, ...]:
        found = []
        for name, array in self.made.items():
            dtype = _NAMES[array.dtype]
            found.append(Entry(name, array.shape, dtype, DTYPES[dtype].floating))
        return tuple(found)

    def raw(self, name: str, begin: int, end: int) -> Bytes:
        return flat(self._flat(name)[begin:end])

    def store(self, name: str, begin: int, raw: Bytes) -> None:
        target = self._flat(name)
        values = np.frombuffer(raw, target.dtype)
        target[begin : begin + values.size] = values

    def reset(self) -> None:
        """Nothing is kept beside the arrays."""

    def _flat(self, name: str) -> NDArray[Any]:
        array = self.made[name]
        if not array.flags.c_contiguous:  # a task put another array in its place
            array = self.made[name] = np.ascontiguousarray(array)
        return array.reshape(-1)  # type: ignore[no-any-return]
