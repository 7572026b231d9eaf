"""From a request to its answer: whatever happens, one line goes back and the trainer stays usable."""

import traceback
from collections.abc import Mapping

from unisono.base.errors import BadMessage

from .failures import TEXTS, of_our_own
from .requests import Describe, Open, Work, parse
from .trainer import Progress, Trainer, resident_mb


class Desk:
    """Holds the task that is open."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._trainer: Trainer | None = None

    def answer(self, message: Mapping[str, object]) -> dict[str, object]:
        """Return the answer.  What went wrong goes, whole, to standard error: the site's trainer.log."""
        try:
            return self._answered(message)
        except Exception as raised:
            traceback.print_exc()
            failed = of_our_own(raised)
            return {"failed": {"code": failed.reason, "text": TEXTS[failed.reason], "detail": failed.detail}}

    def _answered(self, message: Mapping[str, object]) -> dict[str, object]:
        match parse(message):
            case Open() as request:
                self._trainer = None  # the old task's memory first
                self._trainer = Trainer(request, self._progress)
                return {"opened": {"imports_rss_mb": resident_mb()}}
            case Describe() as request:
                manifest, digest, size = self._open().describe(request)
                return {"described": {"manifest": manifest.encode().decode(), "model": digest, "bytes": size}}
            case Work() as request:
                written = self._open().work(request)
                return {"done": {"sha256": written.sha256, "bytes": written.bytes}}

    def _open(self) -> Trainer:
        if self._trainer is None:
            raise BadMessage("no task is open")
        return self._trainer
