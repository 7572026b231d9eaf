"""What can go wrong in a trainer.  The code and its fixed text travel; the detail stays at the site.

User code's own words may hold patients' names, so nothing that it says leaves: the operator sees one of these
texts, the site's people see the detail and the traceback in trainer.log.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from unisono.base.errors import BadConfiguration, BadUpdate, Corrupt, Error

Code = Literal[
    "task_error",
    "not_finite",
    "no_data",
    "out_of_memory",
    "disk_full",
    "bad_model",
    "model_differs",
    "trainer_fault",
]

TEXTS: dict[Code, str] = {
    "task_error": "the task raised an error; its words are in the site's trainer.log",
    "not_finite": "training gave values that are NaN or infinite",
    "no_data": "the site has no data for this task",
    "out_of_memory": "training ran out of memory",
    "disk_full": "the site's disk is full",
    "bad_model": "the model received is damaged or does not fit its digest",
    "model_differs": "the task's model has other tensors than the run's model",
    "trainer_fault": "the trainer itself failed; its words are in the site's trainer.log",
}


class Failed(Error):
    """The request cannot be done; the trainer is ready for the next one."""

    code = "failed"

    def __init__(self, reason: Code, detail: str) -> None:
        super().__init__(f"{TEXTS[reason]} ({detail})" if detail else TEXTS[reason])
        self.reason, self.detail = reason, detail


@contextmanager
def user_code() -> Iterator[None]:
    """Turn whatever the user's code raises into Failed; its `sys.exit` ends the request only."""
    try:
        yield
    except (Failed, KeyboardInterrupt):
        raise
    except BaseException as raised:
        raise Failed(_reason(raised), _words(raised)) from raised


@contextmanager
def finite() -> Iterator[None]:
    """Turn the codec's refusal of NaN and infinity into Failed."""
    try:
        yield
    except BadUpdate as refused:
        raise Failed("not_finite", str(refused)) from refused


def of_our_own(raised: Exception) -> Failed:
    """Return the failure that stands for an exception outside the user's code."""
    if isinstance(raised, Failed):
        return raised
    if isinstance(raised, BadConfiguration):
        return Failed("task_error", str(raised))
    if isinstance(raised, Corrupt):
        return Failed("bad_model", str(raised))
    return Failed(_shortage(raised) or "trainer_fault", _words(raised))


def _reason(raised: BaseException) -> Code:
    return _shortage(raised) or "task_error"


def _shortage(raised: BaseException) -> Code | None:
    """Return what the machine lacks, if that is why."""
    if isinstance(raised, OSError) and raised.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "disk_full"
    return "out_of_memory" if _is_memory(raised) else None


def _is_memory(raised: BaseException) -> bool:
    """Tell exhaustion without importing torch: its CPU allocator raises a plain RuntimeError."""
    if isinstance(raised, MemoryError) or type(raised).__name__ == "OutOfMemoryError":
        return True
    return isinstance(raised, RuntimeError) and "can't allocate memory" in str(raised)


def _words(raised: BaseException) -> str:
    return f"{type(raised).__name__}: {raised}" if str(raised) else type(raised).__name__
