"""Rows that are the points of a grid, in C order: what boxes a range of them is, where to cut it.

Integers only.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

import numpy as np
import numpy.typing as npt

Box = tuple[slice, ...]
# Where chunks of an axis begin, from 0; even ones as a range.
Borders = Sequence[int]


def boxes(start: int, stop: int, sizes: Sequence[int]) -> Iterator[Box]:
    """Boxes that hold rows start up to stop, in order; at most two an axis, less one.

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
        Of the axis.
    inner : int
        Rows of one index of it.
    borders : sequence of int
        Indices of it that pieces begin with, the first 0.
    """

    size: int
    inner: int
    borders: Borders

    @classmethod
    def of(cls, sizes: Sequence[int], chunks: Sequence[Borders], most: int, worth: int) -> "Grain":
        """Slabs of whole chunks along the first axis on which these are no longer than ``most``.

        Parameters
        ----------
        sizes : sequence of int
            Of the axes.
        chunks : sequence of borders
            Of each axis.
        most : int
            Rows. Where even a slab of one chunk is longer, and chunks span further axes, they
            are read in part, once for each ``most`` rows.
        worth : int
            Rows that are worth reading together: smaller slabs are joined.

        Examples
        --------
        >>> Grain.of((6, 10), (range(0, 6, 2), range(0, 10, 5)), most=50, worth=40).cuts(0, 60)
        [0, 40, 60]
        >>> Grain.of((6, 10), (range(0, 6, 6), range(0, 10, 5)), most=50, worth=40).cuts(0, 60)
        [0, 50, 60]
        """
        for axis, (size, borders) in enumerate(zip(sizes, chunks, strict=True)):
            inner = prod(sizes[axis + 1 :])
            if longest(borders, size) * inner <= most or len(sizes) == 1:
                return cls(size, inner, _joined(borders, size, max(1, worth // inner)))
            if inner <= most:
                # Each piece reads all chunks again: as few of them as may be.
                return cls(size, inner, range(0, size, most // inner))
        raise ValueError("most is less than one row")

    @property
    def longest(self) -> int:
        """Rows of the longest piece."""
        return longest(self.borders, self.size) * self.inner

    def cuts(self, start: int, stop: int) -> list[int]:
        """Start, stop, and the cuts between."""
        run = self.size * self.inner
        found = [start]
        for first in range(start // run * run, stop, run):
            # The pieces that begin after start and before stop.
            a = bisect_right(self.borders, (start - first) // self.inner)
            b = bisect_left(self.borders, -(-(stop - first) // self.inner))
            rows = (first + border * self.inner for border in self.borders[a:b])
            if first > start:
                found.append(first)
                rows = (row for row in rows if row > first)
            found += rows
        return [*found, stop]

    def piece_of(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """The number of the piece that each row is in."""
        runs, within = np.divmod(rows, self.size * self.inner)
        index = within // self.inner
        if isinstance(self.borders, range):
            pieces = index // self.borders.step
        else:
            pieces = np.searchsorted(np.asarray(self.borders), index, side="right") - 1
        numbers: npt.NDArray[np.integer] = runs * len(self.borders) + pieces
        return numbers


def begins(lengths: Iterable[int]) -> list[int]:
    """Return where chunks of these lengths begin; empty ones, which Dask allows, are left out."""
    return [0, *accumulate([n for n in lengths if n][:-1])]


def longest(borders: Borders, size: int) -> int:
    """Return the length of the longest chunk."""
    if isinstance(borders, range):
        return min(borders.step, size)
    return max(b - a for a, b in zip(borders, [*borders[1:], size], strict=True))


def _joined(borders: Borders, size: int, worth: int) -> Borders:
    """Borders less those between chunks that are small enough to be read together."""
    if isinstance(borders, range):
        return range(0, size, borders.step * max(1, worth // borders.step))
    kept = [0]
    for border, following in pairwise([*borders[1:], size]):
        if border > kept[-1] and following - kept[-1] > worth:
            kept.append(border)
    return kept
