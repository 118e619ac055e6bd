"""Readers of files that were opened once, and go on where they ended.

Files of tables cannot be entered at any row, and opening one takes time. A reader that has given
rows is therefore kept open for a while.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Thread, current_thread
from typing import Any, Protocol, TypeVar

from dkde.stores.listed_files import Listed

# Readers that are kept after their threads have ended: the next block often goes on there.
_LEFT = 2


class Reader(Protocol):
    """A file from which rows are read in order, and where it is."""

    @property
    def is_done(self) -> bool:
        """Return whether no row is left."""

    def distance(self, row: int) -> int:
        """Return how far it is to a row."""

    def close(self) -> None:
        """Close the file."""


_Reader = TypeVar("_Reader", bound=Reader)


@dataclass(frozen=True)
class _Waiting:
    """A reader that waits for its next rows, with its file and columns, and who read last."""

    key: tuple[Any, ...]
    reader: Any
    thread: Thread


# The oldest first. Each holds a few pages of its file, so they are few: one for each thread and
# columns, and a few more.
_waiting: list[_Waiting] = []
_lock = Lock()


@contextmanager
def lent(
    files: Listed, i: int, asked: Hashable, row: int, make: Callable[[], _Reader]
) -> Iterator[_Reader]:
    """Lend the reader of a file that is nearest before a row, or a new one.

    Parameters
    ----------
    files : Listed
        The files.
    i : int
        The number of the file.
    asked : hashable
        What is read of it: readers of other columns are others.
    row : int
        The first row that is wanted.
    make : callable, () -> Reader
        Makes a reader.
    """
    # A process that was forked must not move in the files of the other.
    key = (os.getpid(), files.path(i), files.sizes[i], files.tags[i], asked)
    with _lock:
        known = [each for each in _waiting if each.key == key]
        nearest = min(known, key=lambda each: each.reader.distance(row), default=None)
        if nearest is not None:
            _waiting.remove(nearest)
    reader: _Reader = make() if nearest is None else nearest.reader
    try:
        files.check(i)  # a file that waits may have been written over
        yield reader
    except BaseException:
        reader.close()
        raise
    if reader.is_done:
        reader.close()
        return
    own = current_thread()
    with _lock:
        left = [each for each in _waiting if not each.thread.is_alive()]
        old = [
            *left[: max(0, len(left) - _LEFT)],
            # A thread reads the same columns on at one place.
            *(each for each in _waiting if each.thread is own and each.key[-1] == asked),
        ]
        for each in old:
            _waiting.remove(each)
        _waiting.append(_Waiting(key, reader, own))
    for each in old:
        each.reader.close()


@atexit.register
def close_readers() -> None:
    """Close all readers that wait."""
    with _lock:
        old = list(_waiting)
        _waiting.clear()
    for each in old:
        each.reader.close()
