"""Asks glibc to give memory back.

Eight upload streams left 525 MB resident with its default of many arenas, 226 MB with these settings, at the
same speed (design section 4).  The threshold for mmap lies above a chunk of 1 MiB in its message: below it,
every chunk would be mapped, faulted in page by page and unmapped again, a third of the event loop's time.
Where the C library has no mallopt, nothing happens.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>


def tame() -> bool:
    """Call before the first thread starts.  Returns whether the C library took the settings."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 2 << 20), (_M_TRIM_THRESHOLD, 4 << 20))
    return all(mallopt(option, value) == 1 for option, value in wanted)
