"""Seconds of a share of a block by stage, and the bytes that it reads, for the log of blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

from dkde.rows.side import Rows

# To wait for rows to be read; to put them in leaves, or to make moments, or to wait for another
# share that does; and all else.
READ, PREPARE, SUM = "read", "prepare", "sum"


class Stopwatch:
    """The seconds of one thread by stage, which add up to all of them, and the bytes read."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys((READ, PREPARE, SUM), 0.0)
        self._stage, self._since = SUM, perf_counter()
        # Reads may be noted by the thread that reads ahead too: to append is safe.
        self._bytes: list[int] = []

    def turn(self, stage: str) -> str:
        """Begin a stage, and return the one that it ends."""
        now, before = perf_counter(), self._stage
        self.spent[before] += now - self._since
        self._stage, self._since = stage, now
        return before

    def note(self, n_bytes: int) -> None:
        """Count bytes that were read."""
        self._bytes.append(n_bytes)

    @property
    def bytes_read(self) -> int:
        """Return the bytes that were read."""
        return sum(self._bytes)


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


def note_read(rows: Rows, start: int, stop: int) -> None:
    """Count rows that were read, in bytes as they are stored, before compression."""
    if (watch := _RUNNING.get()) is not None:
        watch.note((stop - start) * rows.itemsize * rows.n_stored_features)
