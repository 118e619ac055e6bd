"""Rows of files that hold one table, read by tasks a few thousand at a time, whatever the files.

Where rows are cut depends on their width alone, not on files and their layout: the same rows in any
number of files give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from dkde.rows.arrow_values import Column, values_of
from dkde.rows.row_source import READ_BYTES, RowSource, reading_rows
from dkde.stores.listed_files import Listed
from dkde.typing import Array

# The bytes of rows that Arrow decodes at a time.
_BATCH_BYTES = 2**20


class TableFiles(RowSource):
    """Columns of files as rows; nothing of them is held.

    A format says how batches of rows are read, how columns become numbers, and what changes with
    the files (`_batches`, `_held`, `stamp`).

    Parameters
    ----------
    files : Listed
        The files, in the order of their rows.
    lengths : sequence or array of int
        The number of rows of each file.
    columns : sequence of (str, int or None)
        The names of the columns, and the lengths of the lists of those that hold lists.
    dtype : numpy.dtype
        The dtype that all features have in common.
    state_bytes : int
        The bytes that a thread holds while it reads, beside the rows.
    is_vector : bool
        True if there is one column and each row is a single value.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(
        self,
        files: Listed,
        lengths: Any,
        columns: Sequence[tuple[str, int | None]],
        dtype: np.dtype[Any],
        state_bytes: int,
        is_vector: bool,
    ) -> None:
        self.files, self.columns, self.dtype = files, tuple(columns), dtype
        self.is_vector, self._state_bytes = is_vector, state_bytes
        self.starts = np.array([0, *accumulate(map(int, lengths))], np.int64)
        self._ends = np.array([0, *accumulate(width or 1 for _, width in columns)], np.int64)
        n_rows = int(self.starts[-1])
        self.shape = (n_rows,) if is_vector else (n_rows, int(self._ends[-1]))

    @property
    def lengths(self) -> Array:
        """Return the number of rows of each file."""
        found: Array = np.diff(self.starts)
        return found

    @property
    def copies(self) -> int:
        """Return the number of extra copies of a batch that exist while it is read."""
        piece = min(READ_BYTES, max(1, self.shape[0] * self.row_bytes))
        return 1 + -(-self._state_bytes // piece)

    @property
    def variable_name(self) -> str | None:
        """Return the name of the column where each row is one value."""
        return self.columns[0][0] if self.is_vector else None

    def vector(self) -> RowSource:
        """Return the first column as a source of single values."""
        raise NotImplementedError

    def with_beside(self, beside: Callable[[str, str], RowSource]) -> RowSource:
        """Return the same rows, with access to the other columns of their table."""
        raise NotImplementedError

    def content(self) -> Any:
        """Return a key that is equal for equal files and columns."""
        return self.stamp()

    def stamp(self) -> Any:
        """Return a stamp that changes with the files."""
        raise NotImplementedError

    def former_stamp(self) -> Any:
        """Return the stamp of the values, as they were when they were loaded."""
        return np.ascontiguousarray(self.read(0, self.shape[0]))

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the piece in which each row lies."""
        return rows // max(1, self.read_rows)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        found = self._read(start, stop, range(len(self.columns)))
        return found[:, 0] if self.is_vector else found

    def read_columns(self, start: int, stop: int, columns: Sequence[int]) -> Array:
        """Read some features of the rows from start up to stop; others are not looked at."""
        owners = np.searchsorted(self._ends, np.asarray(columns), side="right") - 1
        wanted = sorted({int(owner) for owner in owners})
        found = self._read(start, stop, wanted)
        # The place of each wanted column's first feature in what was read.
        widths = [int(self._ends[k + 1] - self._ends[k]) for k in wanted]
        begins = dict(zip(wanted, accumulate([0, *widths]), strict=False))
        places = [
            begins[int(owner)] + column - int(self._ends[owner])
            for owner, column in zip(owners, columns, strict=True)
        ]
        return found if places == list(range(found.shape[1])) else found[:, places]

    def arrow(self, start: int, stop: int, names: Sequence[str]) -> Iterator[Any]:
        """Yield columns of rows as record batches of their own types.

        Raises
        ------
        DataSetError
            When a file cannot be read.
        """
        for i, a, b in self.ranges(start, stop):
            with reading_rows(self.files.path(i), a, b):
                for _, batch in self._batches(i, a, b, tuple(names)):
                    yield batch

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the numbers of the files that hold rows, with the range of rows in each."""
        i = int(np.searchsorted(self.starts, start, side="right")) - 1
        while start < stop:
            end = min(stop, int(self.starts[i + 1]))
            if start < end:
                first = int(self.starts[i])
                yield i, start - first, end - first
                start = end
            i += 1

    def _read(self, start: int, stop: int, wanted: Sequence[int]) -> Array:
        """Read the rows from start up to stop of some columns, by their numbers."""
        columns = [self.columns[number] for number in wanted]
        out = np.empty((stop - start, sum(width or 1 for _, width in columns)), self.dtype)
        names = tuple(name for name, _ in columns)
        for i, a, b in self.ranges(start, stop):
            at = int(self.starts[i]) + a - start
            with reading_rows(self.files.path(i), a, b):
                for row, batch in self._batches(i, a, b, names):
                    self._fill(out[at : at + len(batch)], batch, columns, i, row)
                    at += len(batch)
        return out

    def _fill(self, rows: Array, batch: Any, columns: Any, i: int, row: int) -> None:
        """Write the values of a batch into rows; row is the number of the first in its file."""
        at, path = 0, self.files.path(i)
        for name, width in columns:
            column = batch.column(name)
            held = self._held(i, name, column.type, width)
            # Rows are counted from 1 in messages about a file.
            values = values_of(column, held, self.dtype, f"{path}: column {name!r}", row + 1)
            rows[:, at : at + held.n_features] = values.reshape(len(batch), -1)
            at += held.n_features

    def _batches(
        self, i: int, start: int, stop: int, names: tuple[str, ...]
    ) -> Iterator[tuple[int, Any]]:
        """Yield rows of one file as record batches, each with the number of its first row."""
        raise NotImplementedError

    def _held(self, i: int, name: str, kind: Any, width: int | None) -> Column:
        """Return the kind of a column of a file, which was read as an Arrow type."""
        raise NotImplementedError


def batch_rows(columns: Sequence[tuple[str, int | None]], n_columns: int) -> int:
    """Return the number of rows of some columns that Arrow decodes at a time."""
    widths = sum(width or 1 for _, width in columns)
    row_bytes = max(1, widths // max(1, len(columns))) * max(1, n_columns) * 8
    return max(1, min(2**16, _BATCH_BYTES // row_bytes))
