"""Whether a model is what a run's models are: its tensors, all values finite (reference 1.4, row 14)."""

from dataclasses import dataclass

import numpy as np

from unisono.base.errors import BadUpdate
from unisono.base.ids import Digest
from unisono.client.trainer.at_rest import SealedFile
from unisono.crypto import SEGMENT, AtRest
from unisono.tensors import Manifest, check_header, norm
from unisono.tensors.vector import Travelling

from .cache import Cache
from .downloads import Watch


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found: `difference` from the run's tensors in words, None if there is none."""

    difference: str | None
    finite: bool


class Examiner:
    """Looks at models of the cache, each once; the digest is that of the file, which it is bound to."""

    def __init__(self, cache: Cache, key: bytes) -> None:
        self._cache, self._at_rest = cache, AtRest(key)
        self._last: tuple[Digest, Examined] | None = None
        self._arrived: tuple[Digest, Arrival] | None = None

    def watch(self, model: Digest, manifest: Manifest) -> Watch:
        """Return what looks at a model while it arrives: then its file need not be opened for that again."""
        self._arrived = model, Arrival(manifest)
        return self._arrived[1].take

    def examine(self, model: Digest, manifest: Manifest) -> Examined:
        """Return what a cached model is.  Raises Corrupt if its file is damaged."""
        if self._last is None or self._last[0] != model:
            self._last = model, self._look(model, manifest)
        return self._last[1]

    def norm(self, model: Digest, manifest: Manifest) -> float:
        """Return the length of the travelling vector.  Raises BadUpdate if it is no model of the run."""
        with self._open(model) as file:
            check_header(bytes(file.read(0, len(manifest.header))), manifest)
            return norm(manifest, file.read)

    def _look(self, model: Digest, manifest: Manifest) -> Examined:
        with self._open(model) as file:
            if file.length != manifest.file_bytes:
                return Examined(
                    f"{file.length} bytes, and the run's have {manifest.file_bytes}", finite=False
                )
            try:
                check_header(bytes(file.read(0, len(manifest.header))), manifest)
            except BadUpdate as differs:
                return Examined(str(differs), finite=False)
            arrived = self._arrived is not None and self._arrived[0] == model and self._arrived[1].finite
            return Examined(None, arrived or _is_finite(manifest, file))

    def _open(self, model: Digest) -> SealedFile:
        return SealedFile.of_model(self._cache.path(model), self._at_rest, model)


class Arrival:
    """Tells of a model of float32 tensors that all values are finite, from its bytes in their order."""

    def __init__(self, manifest: Manifest) -> None:
        self._header, self._size = len(manifest.header), manifest.file_bytes
        self._plain = all(entry.dtype == "F32" for entry in manifest.entries)
        self._seen, self._finite = 0, True

    @property
    def finite(self) -> bool:
        """Whether all was seen and is finite.

        If not, the file has to be asked: what does not travel may hold anything, and other types than
        float32 are not understood here.
        """
        return self._plain and self._finite and self._seen == self._size

    def take(self, offset: int, data: bytes | memoryview) -> None:
        if offset == 0:
            self._seen, self._finite = 0, True
        begin = min(max(0, self._header - offset), len(data))
        if offset != self._seen or offset % 4 or len(data) % 4:
            self._seen = -1  # some of it is missed
            return
        self._seen += len(data)
        self._finite = self._finite and bool(np.isfinite(np.frombuffer(data, "<f4", offset=begin)).all())


def _is_finite(manifest: Manifest, file: SealedFile) -> bool:
    """Tell whether all that travels is: far cheaper than a norm, and needed every round."""
    vector, step = Travelling(manifest, file.read), SEGMENT // 4
    try:
        for start in range(0, vector.length, step):
            vector.values(start, min(start + step, vector.length))
    except BadUpdate:  # names the value, which nobody needs
        return False
    return True
