"""Whether a model is what a run's models are: its tensors, all values finite (reference 1.4, row 14)."""

from dataclasses import dataclass

from unisono.base.errors import BadUpdate
from unisono.base.ids import Digest
from unisono.client.trainer.at_rest import SealedFile
from unisono.crypto import SEGMENT, AtRest
from unisono.tensors import Manifest, check_header, norm
from unisono.tensors.vector import Travelling

from .cache import Cache


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
            return Examined(None, _is_finite(manifest, file))

    def _open(self, model: Digest) -> SealedFile:
        return SealedFile.of_model(self._cache.path(model), self._at_rest, model)


def _is_finite(manifest: Manifest, file: SealedFile) -> bool:
    """Tell whether all that travels is: far cheaper than a norm, and needed every round."""
    vector, step = Travelling(manifest, file.read), SEGMENT // 4
    try:
        for start in range(0, vector.length, step):
            vector.values(start, min(start + step, vector.length))
    except BadUpdate:  # names the value, which nobody needs
        return False
    return True
