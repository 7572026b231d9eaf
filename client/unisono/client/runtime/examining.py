"""Whether a model is what a run's models are: its tensors, all values finite (reference 1.4, row 14)."""

from dataclasses import dataclass
from math import isfinite, nan

from unisono.base.errors import BadUpdate
from unisono.base.ids import Digest
from unisono.client.trainer.at_rest import SealedFile
from unisono.crypto import AtRest
from unisono.tensors import Manifest, check_header, norm

from .cache import Cache


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found: `difference` from the run's tensors in words, None if there is none."""

    difference: str | None
    norm: float  # NaN if a value is not finite

    @property
    def finite(self) -> bool:
        return isfinite(self.norm)


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

    def _look(self, model: Digest, manifest: Manifest) -> Examined:
        with SealedFile.of_model(self._cache.path(model), self._at_rest, model) as file:
            if file.length != manifest.file_bytes:
                return Examined(f"{file.length} bytes, and the run's have {manifest.file_bytes}", nan)
            try:
                check_header(bytes(file.read(0, len(manifest.header))), manifest)
            except BadUpdate as differs:
                return Examined(str(differs), nan)
            try:
                return Examined(None, norm(manifest, file.read))
            except BadUpdate:  # names the value: it is the model's, which everybody has, but nobody needs it
                return Examined(None, nan)
