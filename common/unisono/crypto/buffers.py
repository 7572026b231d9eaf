"""Bytes-like arguments, arrays included, seen as plain bytes without a copy."""

from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

# NumPy tells type checkers about the buffer protocol only from Python 3.12 on; hence the second half.
Readable: TypeAlias = "Buffer | NDArray[np.generic]"


def flat(data: Readable) -> memoryview:
    """View C-contiguous `data` as bytes; OpenSSL's binding takes no other item format."""
    view = memoryview(cast("Buffer", data))
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty array cannot be cast
