"""The rows of a source that a filter keeps.

Which rows are kept is a bit for each row, found in one pass over the columns that the filter names.
Everything else about the rows, such as their columns, weights and groups, is read where it lies,
and the rows that are not kept are left out of what was read. Row numbers in messages are those of
the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np

from dkde.rows.boxes import Grain
from dkde.rows.kept import Kept, Numbers
from dkde.rows.row_source import READ_BYTES, RowSource, innermost
from dkde.rows.sources import ArraySource
from dkde.typing import Array


def kept_of(source: RowSource, kept: Kept, pieces: Pieces | None = None) -> RowSource:
    """Return the rows of a source that a filter keeps.

    Parameters
    ----------
    source : RowSource
        The rows, or what lies beside them: one value or row for each row of the filter's source.
    kept : Kept
        Which rows are kept.
    pieces : Pieces, optional
        What was read for other filters of the same sources.
    """
    if isinstance(source, ArraySource):
        numbers, masked = kept.numbers(0, kept.n_rows), source.masked
        if masked is not None:  # it is NaN by now, so that forgetting it does no harm
            at = int(np.searchsorted(numbers, masked[0]))
            is_there = at < len(numbers) and numbers[at] == masked[0]
            masked = (at, *masked[1:]) if is_there else None
        return KeptArray(source.array[numbers], kept, masked=masked)
    return Filtered(source, kept, pieces)


@dataclass(frozen=True, eq=False)
class KeptArray(ArraySource):
    """Rows in memory that a filter kept, with their numbers before it.

    Parameters
    ----------
    array : array (n_rows, ...)
        The kept rows.
    kept : Kept
        Which rows these were before the filter.
    """

    kept: Kept

    @property
    def resident_bytes(self) -> int:
        """Return the bytes that the source holds in memory."""
        return self.array.nbytes + self.kept.nbytes

    def row_name(self, row: int) -> str:
        """Return the name of a row in messages, by its number before the filter."""
        return f"row {self.kept.number(row)}"


class Pieces:
    """Pieces of sources that several filters read one after the other, each read once.

    The first ones are held, until they are so many bytes; others are read again. Those who read
    elsewhere, as workers do, hold none.
    """

    _MOST = 2**26

    def __init__(self) -> None:
        self._held: dict[tuple[int, int, int], Array] = {}
        self._room, self._lock = self._MOST, Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Pieces, ()

    def read(self, source: RowSource, start: int, stop: int) -> Array:
        """Return a piece of a source, which is one object for all that read it."""
        key = id(source), start, stop
        found = self._held.get(key)
        if found is None:
            found = source.read(start, stop)
            with self._lock:
                if found.nbytes <= self._room and key not in self._held:
                    self._room -= found.nbytes
                    self._held[key] = found
        return found


class Filtered(RowSource):
    """The rows of another source that a filter keeps.

    This is no dataclass: Dask searches dataclasses for collections, and the source may hold some.

    Parameters
    ----------
    wrapped : RowSource
        The source.
    kept : Kept
        Its rows that are kept.
    pieces : Pieces, optional
        What other filters of the source have read.
    """

    def __init__(self, wrapped: RowSource, kept: Kept, pieces: Pieces | None = None) -> None:
        self.wrapped, self.kept, self._shared = wrapped, kept, pieces
        self.masks, self.panel_bytes = wrapped.masks, innermost(wrapped).panel_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return Filtered, (self.wrapped, self.kept, self._shared)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return (self.kept.n_rows, *self.wrapped.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.wrapped.dtype

    @cached_property
    def _cuts(self) -> Numbers:
        """Rows of the source below at which its pieces begin, and the end of the last."""
        return np.array(self.wrapped.cuts(self.kept.start, self.kept.stop), np.int64)

    @cached_property
    def grain(self) -> Grain:
        """Return the best cuts: those of the source below, joined where few rows are kept."""
        ends = self.kept.rank(self._cuts)[1:]
        worth = max(1, READ_BYTES // max(1, self.row_bytes))
        borders = [0]
        # A piece ends before the chunk that would make it longer than is worth one reading.
        for end, following in pairwise(ends.tolist()):
            if end > borders[-1] and following - borders[-1] > worth:
                borders.append(end)
        return Grain(max(1, self.kept.n_rows), 1, borders)

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the piece in which each row lies."""
        return self.grain.piece_of(rows)

    @property
    def copies(self) -> int:
        """Return the number of extra copies, each as long as the rows that are kept."""
        # A piece of the source below exists beside the rows kept of it, with its own copies.
        longest = int(np.diff(self._cuts).max())
        return (1 + self.wrapped.copies) * -(-longest // max(1, self.read_rows))

    @property
    def resident_bytes(self) -> int:
        """Return the bytes of values that the source holds in memory, and of the bits."""
        return int(self.wrapped.resident_bytes + self.kept.nbytes)

    @property
    def is_held(self) -> bool:
        """Return whether all values are in memory, or follow from values that are."""
        return self.wrapped.is_held

    def owned(self) -> Filtered:
        """Return the same values, where those in a caller's memory are copies of them."""
        return Filtered(self.wrapped.owned(), self.kept)

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row as stored."""
        return self.wrapped.row_bytes

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return self.wrapped.is_lazy

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return a key of the changes made to the stored values, and of the rows kept."""
        return (*self.wrapped.changes, self.kept.key)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop: pieces of the source below, one after the other."""
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        numbers = self.kept.numbers(start, stop)
        for a, b in self._pieces(numbers):
            first, last = int(numbers[a]), int(numbers[b - 1]) + 1
            if self._shared is None:
                found[a:b] = self.wrapped.read(first, last)[numbers[a:b] - first]
            else:  # the whole piece, as other filters need other rows of it
                at = int(np.searchsorted(self._cuts, first, side="right")) - 1
                start, stop = int(self._cuts[at]), int(self._cuts[at + 1])
                piece = self._shared.read(self.wrapped, start, stop)
                found[a:b] = piece[numbers[a:b] - start]
        return found

    def bytes_read(self, start: int, stop: int) -> int:
        """Return the uncompressed bytes that reading a range takes, first to last row."""
        if start == stop:
            return 0
        first, last = (int(self.kept.number(row)) for row in (start, stop - 1))
        return self.wrapped.bytes_read(first, last + 1)

    def _pieces(self, numbers: Numbers) -> Iterator[tuple[int, int]]:
        """Yield ranges of kept rows that lie in one piece of the source below."""
        if not len(numbers):
            return
        if self._shared is not None:
            inside = np.searchsorted(numbers, self._cuts)
            yield from pairwise(map(int, np.unique(inside)))
            return
        cuts = self.wrapped.cuts(int(numbers[0]), int(numbers[-1]) + 1)
        places = [np.searchsorted(numbers, cuts)]
        if (gap := self.wrapped.worth_passing_over) is not None:
            places.append(np.flatnonzero(np.diff(numbers) > gap) + 1)
        yield from pairwise(map(int, np.unique(np.concatenate(places))))

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return self.wrapped.content(), self.kept.key

    def stamp(self) -> Any:
        """Return a stamp that changes with the values, and with the rows that are kept."""
        return self.wrapped.stamp(), self.kept.key

    def row_name(self, row: int) -> str:
        """Return the name of a row in messages, by its number before the filter."""
        return self.wrapped.row_name(self.kept.number(row))

    @property
    def variable_name(self) -> str | None:
        """Return the variable's name where each row is one value and it has a name."""
        return self.wrapped.variable_name
