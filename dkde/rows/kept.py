"""Which rows of a range a filter keeps: a bit for each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

# The rows whose number of kept ones is noted, so that few bits are looked at to find a row.
_GROUP = 2**15
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Kept:
    """The rows of a range of a source that a filter keeps.

    Parameters
    ----------
    text : str
        The filter, as the user wrote it.
    start, stop : int
        The range of rows in the source, before the filter.
    bits : array of uint8
        A bit for each row of the range: 1 if it is kept.
    """

    text: str
    start: int
    stop: int
    bits: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, text: str, start: int, stop: int, masks: Iterable[npt.NDArray[np.bool_]]) -> Kept:
        """Return the rows of consecutive masks, which together are as long as the range.

        Examples
        --------
        >>> masks = [np.array([True, False]), np.array([True, True, False])]
        >>> kept = Kept.of("x > 1", 10, 15, masks)
        >>> kept.n_rows, kept.numbers(1, 3), kept.rank(np.array([10, 13, 15]))
        (3, array([12, 13]), array([0, 2, 3]))
        """
        bits = np.zeros(-(-(stop - start) // 8), np.uint8)
        # Masks end within bytes: what is left of one is packed with the next.
        rest, at = np.zeros(0, bool), 0
        for mask in masks:
            joined = np.concatenate([rest, mask])
            whole = len(joined) // 8 * 8
            bits[at : at + whole // 8] = np.packbits(joined[:whole])
            rest, at = joined[whole:], at + whole // 8
        if len(rest):
            bits[at:] = np.packbits(rest)
        return cls(text, start, stop, bits)

    @cached_property
    def _counts(self) -> Numbers:
        """Numbers of kept rows before each group of rows, and at last of all."""
        size = _GROUP // 8
        groups = [self.bits[i : i + size] for i in range(0, len(self.bits), size)]
        return np.cumsum([0, *(int(np.bitwise_count(each).sum()) for each in groups)])

    @property
    def n_rows(self) -> int:
        """Return the number of rows that are kept."""
        return int(self._counts[-1])

    @property
    def nbytes(self) -> int:
        """Return the bytes of the bits."""
        return self.bits.nbytes

    @property
    def described(self) -> dict[str, Any]:
        """Return the filter and what it keeps, ready for JSON."""
        return {"text": self.text, "rows": self.n_rows, "kept": self.key[-1]}

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Return a key of which rows are kept, whatever the text that chose them."""
        return ("where", self.start, self.stop, hashlib.sha256(self.bits.tobytes()).hexdigest())

    def only(self, start: int, stop: int) -> Kept:
        """Return the kept rows from start up to stop, counted among the kept ones."""
        mask = np.zeros(self.stop - self.start, bool)
        mask[self.numbers(start, stop) - self.start] = True
        return Kept.of(self.text, self.start, self.stop, [mask])

    def among(self, other: Kept | None) -> Kept:
        """Return the rows that another filter of the same range keeps too; all without one."""
        if other is None:
            return self
        text = f"({other.text}) and ({self.text})"
        return replace(self, text=text, bits=self.bits & other.bits)

    def masks(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Yield whether each row of the range is kept, a group of rows at a time."""
        yield from self.masks_of(self.start, self.stop)

    def masks_of(self, start: int, stop: int) -> Iterator[npt.NDArray[np.bool_]]:
        """Yield whether each of some rows of the source is kept, a group of rows at a time."""
        for first in range(start, stop, _GROUP):
            yield self.mask(first, min(first + _GROUP, stop))

    def mask(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Return whether each row of a range of the source is kept."""
        a, b = start - self.start, stop - self.start
        bits = np.unpackbits(self.bits[a // 8 : -(-b // 8)])
        return bits[a % 8 : a % 8 + b - a].astype(bool)

    def numbers(self, start: int, stop: int) -> Numbers:
        """Return the numbers in the source of the kept rows from start up to stop."""
        if start >= stop:
            return np.zeros(0, np.int64)
        # The groups in which the first and the last of these rows lie.
        first, last = np.searchsorted(self._counts, [start, stop - 1], side="right") - 1
        a = self.start + int(first) * _GROUP
        b = min(self.start + (int(last) + 1) * _GROUP, self.stop)
        found = np.flatnonzero(self.mask(a, b)) + a
        before = int(self._counts[first])
        return found[start - before : stop - before]

    def number(self, row: int) -> int:
        """Return the number in the source of one kept row."""
        return int(self.numbers(row, row + 1)[0])

    def rank(self, rows: Numbers) -> Numbers:
        """Return the number of kept rows before each of some ascending rows of the source."""
        found = np.empty(len(rows), np.int64)
        groups = (rows - self.start) // _GROUP
        for group in np.unique(groups):
            here = groups == group
            a = self.start + int(group) * _GROUP
            b = min(a + _GROUP, self.stop)
            before = np.concatenate([[0], np.cumsum(self.mask(a, b))])
            found[here] = self._counts[min(group, len(self._counts) - 1)] + before[rows[here] - a]
        return found


@dataclass(frozen=True)
class Masking:
    """A way to find the rows that a filter keeps, a range at a time.

    Parameters
    ----------
    mask : callable, (start, stop) -> array of bool
        Returns whether each row of a range is kept. It can be sent to a worker.
    cuts : callable, (start, stop) -> list of int
        Returns start, the places between at which reading is best cut, and stop.
    in_tasks : bool
        True if columns are read from a store, a file or a graph, and not from memory.
    """

    mask: Callable[[int, int], npt.NDArray[np.bool_]]
    cuts: Callable[[int, int], list[int]]
    in_tasks: bool
