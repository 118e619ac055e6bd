"""One BLAS thread a worker thread.

The worker threads are the parallelism; BLAS threads on top of them would only contend. Setting
the limit at the start of each task and lifting it at its end races when tasks overlap: one
lifts it while another works. So tasks are counted: the first sets the limit, the last lifts it.

What a limit applies to depends on the library: OpenBLAS counts threads for the process, MKL and
OpenBLAS on OpenMP for the thread that asks. So each task sets it, and puts back what was its
thread's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = Lock()
_working = 0
_before: list[int] = []


@cache
def _libraries() -> list[Any]:
    # Looks through all loaded libraries: milliseconds, so once.
    libraries = ThreadpoolController().lib_controllers
    return [library for library in libraries if library.user_api == "blas"]


def _free() -> None:
    """Let any thread set the limits.

    From 3.8 on, threadpoolctl silently ignores all threads but the first that has set
    OpenBLAS's, and the last task to end is often another than the first to begin.
    """
    for library in _libraries():
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


def _set(numbers: list[int]) -> None:
    _free()
    for library, number in zip(_libraries(), numbers, strict=True):
        library.set_num_threads(number)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread while at least one such context is open in this process."""
    global _working, _before
    with _lock:
        mine = [library.get_num_threads() for library in _libraries()]
        first = _working == 0
        if first:
            _before = mine
        _working += 1
        _set([1] * len(mine))
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if _working == 0:
                _set(_before)
                _free()
            elif not first:
                # Ones, where the limit is the process's; it stays.
                _set(mine)
