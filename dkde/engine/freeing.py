"""Memory that is freed goes back to the system while blocks whose rows are in leaves are computed.

GNU's allocator keeps freed memory for each thread that had it, and the more the larger the arrays
were: up to 64 MiB a thread. Pieces of rows are read by one thread after another, so this comes to
more than all that is in use. Arrays above a fixed size are mapped alone, and given back at once.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

# The sizes from which arrays are mapped alone, and free memory at an end of a heap is given back:
# while blocks are computed, and the largest, which the allocator reaches by itself. The first is
# above that of temporaries of inner loops, which would be cleared by the system each time.
_LEAST, _MOST = (2**22, 2**22), (2**25, 2**26)
# The numbers of these two options in malloc.h.
_MAPPED, _TRIMMED = -3, -1

# The lock guards the number of open contexts.
_lock = Lock()
_working = 0


@cache
def _allocator() -> Any:
    """Return GNU's C library; None where there is another, or the user has set its options."""
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return None
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "gnu_get_libc_version") else None


def _set(sizes: tuple[int, int]) -> None:
    library = _allocator()
    if library is not None:
        for option, size in zip((_MAPPED, _TRIMMED), sizes, strict=True):
            library.mallopt(option, size)


@contextmanager
def giving_memory_back() -> Iterator[None]:
    """Give large arrays back when they are freed, while at least one such context is open."""
    global _working
    with _lock:
        _working += 1
        if _working == 1:
            _set(_LEAST)
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if _working == 0:
                _set(_MOST)
