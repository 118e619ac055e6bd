"""Rows that are the points of a grid in C order: the boxes of a range, and its best cuts.

All functions here work on integers and read nothing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

import numpy as np
import numpy.typing as npt

Box = tuple[slice, ...]
# The indices at which chunks of an axis begin, the first 0. Chunks of one length are a range.
Borders = Sequence[int]


def boxes(start: int, stop: int, sizes: Sequence[int]) -> Iterator[Box]:
    """Yield the boxes that together hold the rows from start up to stop, in order.

    There are at most ``2 * n_axes - 1`` of them: the whole indices of an axis are one box, with a
    rest before and a rest after it that are cut along the next axis.

    Examples
    --------
    >>> [[(s.start, s.stop) for s in box] for box in boxes(2, 9, (3, 4))]
    [[(0, 1), (2, 4)], [(1, 2), (0, 4)], [(2, 3), (0, 1)]]
    """
    if start >= stop:
        return
    if len(sizes) == 1:
        yield (slice(start, stop),)
        return
    inner, rest = prod(sizes[1:]), sizes[1:]
    # Row start is row a of index first of this axis; row stop is row b of index last.
    (first, a), (last, b) = divmod(start, inner), divmod(stop, inner)
    if first == last:
        yield from ((slice(first, first + 1), *box) for box in boxes(a, b, rest))
        return
    if a:
        yield from ((slice(first, first + 1), *box) for box in boxes(a, inner, rest))
        first += 1
    if first < last:
        yield (slice(first, last), *(slice(0, n) for n in rest))
    yield from ((slice(last, last + 1), *box) for box in boxes(0, b, rest))


@dataclass(frozen=True)
class Grain:
    """The best cuts of a grid's rows: at borders along one axis, and between its runs.

    Parameters
    ----------
    size : int
        The length of the axis.
    inner : int
        The number of rows in one index of the axis.
    borders : sequence of int
        The indices of the axis at which pieces begin, the first 0.

    Notes
    -----
    A run is one full pass through the axis. The axes before it repeat the run.
    """

    size: int
    inner: int
    borders: Borders

    @classmethod
    def of(cls, sizes: Sequence[int], chunks: Sequence[Borders], most: int, worth: int) -> "Grain":
        """Return cuts into slabs of whole chunks, along the first axis where they are short enough.

        Parameters
        ----------
        sizes : sequence of int
            The lengths of the axes.
        chunks : sequence of borders
            The chunk borders of each axis.
        most : int
            The largest number of rows in a slab. Where one chunk's slab is longer and its chunks
            span further axes, the slab is read in parts of at most ``most`` rows. Each part reads
            all of the slab's chunks again.
        worth : int
            The number of rows that is worth one reading: smaller slabs are joined.

        Examples
        --------
        >>> Grain.of((6, 10), (range(0, 6, 2), range(0, 10, 5)), most=50, worth=40).cuts(0, 60)
        [0, 40, 60]
        >>> Grain.of((6, 10), (range(0, 6, 6), range(0, 10, 5)), most=50, worth=40).cuts(0, 60)
        [0, 50, 60]
        """
        for axis, (size, borders) in enumerate(zip(sizes, chunks, strict=True)):
            inner = prod(sizes[axis + 1 :])
            # Rows along one axis are cut at chunk borders however long the chunks are.
            if longest(borders, size) * inner <= most or len(sizes) == 1:
                return cls(size, inner, _joined(borders, size, max(1, worth // inner)))
            if inner <= most:
                # Each piece reads all chunks of the slab again, so the pieces are as long as
                # allowed, and their number as small as possible.
                return cls(size, inner, range(0, size, most // inner))
        raise ValueError("most is less than one row")

    @property
    def longest(self) -> int:
        """Return the number of rows in the longest piece."""
        return longest(self.borders, self.size) * self.inner

    def cuts(self, start: int, stop: int) -> list[int]:
        """Return start, the cuts between, and stop."""
        run = self.size * self.inner
        found = [start]
        for first in range(start // run * run, stop, run):
            # Keep the pieces that begin after start and before stop. The second division rounds
            # up: a piece may begin within the last index that stop reaches into.
            a = bisect_right(self.borders, (start - first) // self.inner)
            b = bisect_left(self.borders, -(-(stop - first) // self.inner))
            rows = (first + border * self.inner for border in self.borders[a:b])
            if first > start:  # each run begins with a cut of its own, which borders[0] repeats
                found.append(first)
                rows = (row for row in rows if row > first)
            found += rows
        return [*found, stop]

    def piece_of(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Return the number of the piece in which each row lies, for an array of rows."""
        runs, within = np.divmod(rows, self.size * self.inner)
        index = within // self.inner
        if isinstance(self.borders, range):
            pieces = index // self.borders.step
        else:
            pieces = np.searchsorted(np.asarray(self.borders), index, side="right") - 1
        numbers: npt.NDArray[np.integer] = runs * len(self.borders) + pieces
        return numbers


def begins(lengths: Iterable[int]) -> list[int]:
    """Return the first index of each chunk; empty chunks, which Dask allows, are left out."""
    return [0, *accumulate([n for n in lengths if n][:-1])]


def longest(borders: Borders, size: int) -> int:
    """Return the length of the longest chunk."""
    if isinstance(borders, range):
        return min(borders.step, size)
    return max(b - a for a, b in zip(borders, [*borders[1:], size], strict=True))


def _joined(borders: Borders, size: int, worth: int) -> Borders:
    """Return the borders that remain after joining chunks up to ``worth`` indices."""
    if isinstance(borders, range):
        return range(0, size, borders.step * max(1, worth // borders.step))
    kept = [0]
    # A border stays only if the chunk after it would make the joined piece too long.
    for border, following in pairwise([*borders[1:], size]):
        if border > kept[-1] and following - kept[-1] > worth:
            kept.append(border)
    return kept
