"""The limit of one BLAS thread for each worker thread.

The worker threads keep all cores busy, and BLAS threads beside them would only compete for these. A
task that sets the limit at its start and lifts it at its end would lift it while another task still
works. So tasks are counted: the first one sets the limit, and the last one lifts it.

The scope of a limit depends on the library. OpenBLAS has one for the process; MKL, and OpenBLAS on
OpenMP, have one for the thread that sets it. So each task sets the limit, and at its end puts back
the number that its thread had before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

# The lock guards the number of open contexts, and the numbers of threads before the first one.
_lock = Lock()
_working = 0
_before: list[int] = []


@cache
def _libraries() -> list[Any]:
    # A search of all loaded libraries takes milliseconds, so it is done once.
    libraries = ThreadpoolController().lib_controllers
    return [library for library in libraries if library.user_api == "blas"]


def _free() -> None:
    """Let any thread set the limits.

    From 3.8 on, threadpoolctl lets only the first thread that set OpenBLAS's number set it again,
    and ignores all others silently. The last task to end often runs in another thread.
    """
    for library in _libraries():
        # Only OpenBLAS has it, and only since 3.8.
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


def _set(numbers: list[int]) -> None:
    """Set the number of threads of each library, whichever thread calls."""
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
                _free()  # the next context may be opened in another thread
            elif not first:
                # What this thread had before. That is one where the limit is the process's, as the
                # first context had set it already: so it stays in force for the others.
                _set(mine)
