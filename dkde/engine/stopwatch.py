"""Seconds of a share of a block by stage, for the log of blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

# To wait for rows to be read; to put them in leaves, or to make moments, or to wait for another
# share that does; and all else.
READ, PREPARE, SUM = "read", "prepare", "sum"


class Stopwatch:
    """The seconds of one thread by stage, which add up to all of them."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys((READ, PREPARE, SUM), 0.0)
        self._stage, self._since = SUM, perf_counter()

    def turn(self, stage: str) -> str:
        """Begin a stage, and return the one that it ends."""
        now, before = perf_counter(), self._stage
        self.spent[before] += now - self._since
        self._stage, self._since = stage, now
        return before


_RUNNING: ContextVar[Stopwatch | None] = ContextVar("dkde-stopwatch", default=None)


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Yield a stopwatch that runs, for what this thread does, until the end of the block."""
    watch = Stopwatch()
    token = _RUNNING.set(watch)
    try:
        yield watch
    finally:
        _RUNNING.reset(token)
        watch.turn(SUM)


@contextmanager
def spent(stage: str) -> Iterator[None]:
    """Count the time of a block of code, or of a function, for a stage; not where none is timed."""
    watch = _RUNNING.get()
    if watch is None:
        yield
        return
    before = watch.turn(stage)
    try:
        yield
    finally:
        watch.turn(before)
