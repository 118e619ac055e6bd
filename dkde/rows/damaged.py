"""Rows that cannot be read: which of a range they are."""

from __future__ import annotations

from collections.abc import Callable

from dkde.errors import DataSetError
from dkde.typing import Array

# The most parts in which a range is read again to find what is damaged.
_MOST_PARTS = 1000


def read_narrowly(read: Callable[[int, int], Array], start: int, stop: int, step: int) -> Array:
    """Read rows; if some are damaged, name the chunk that they lie in, and not the whole range.

    Parameters
    ----------
    read : callable
        Reads the rows from one number up to another.
    start, stop : int
        The rows.
    step : int
        The rows of a chunk.
    """
    try:
        return read(start, stop)
    except DataSetError as error:
        # Only what a decoder raised: an outage would be waited for again.
        if error.__cause__ is not None:
            step = max(step, -(-(stop - start) // _MOST_PARTS))
            read(*_damaged(read, start, stop, step))  # raises, and names fewer rows
        raise


def _damaged(
    read: Callable[[int, int], Array], start: int, stop: int, step: int
) -> tuple[int, int]:
    """Return the first rows in a range that cannot be read, in whole steps that follow each other.

    A shard of which the index is damaged is many such steps.
    """
    found: list[int] = []
    for first in range(start - start % step, stop, step):
        a, b = max(first, start), min(first + step, stop)
        try:
            read(a, b)
        except DataSetError:
            found += [a, b]
        else:
            if found:
                break
    return (found[0], found[-1]) if found else (start, stop)
