"""One BLAS thread a worker thread.

The worker threads are the parallelism; BLAS threads on top of them would only contend. Setting
the limit at the start of each task and lifting it at its end races when tasks overlap: one
lifts it while another works. So tasks are counted: the first sets the limit, the last lifts it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = Lock()
_working = 0
_limit: Any = None


@cache
def _controller() -> ThreadpoolController:
    # Looks through all loaded libraries: milliseconds, so once.
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread while at least one such context is open in this process."""
    global _working, _limit
    with _lock:
        if _working == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
        _working += 1
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if _working == 0:
                _limit.restore_original_limits()
