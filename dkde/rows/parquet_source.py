"""Rows of Parquet files, read by tasks a few thousand at a time, whatever the files' layout.

A file cannot be entered at any row: a row group is decoded from its first row on. So a reader that
has given rows is kept open for a while, and goes on where it ended. Where rows are cut depends on
their width alone, not on files and row groups: the same rows in any number of files give the same
numbers, in the same memory.
"""

from __future__ import annotations

import atexit
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from threading import Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any

import numpy as np

from dkde.errors import DataSetError
from dkde.rows.arrow_values import Column, column_of_points, column_of_type, values_of
from dkde.rows.parquet_files import identity_of, opened, partitions, state_bytes, tail_of
from dkde.rows.points import Points, holds_points
from dkde.rows.row_source import READ_BYTES, RowSource, reading_rows
from dkde.stores.listed_files import Listed
from dkde.typing import Array

if TYPE_CHECKING:
    import pyarrow as pa

# The bytes of rows that Arrow decodes at a time.
_BATCH_BYTES = 2**20
# Readers that are kept after their threads have ended: the next block often goes on there.
_LEFT = 2


class ParquetSource(RowSource):
    """Columns of Parquet files as rows; nothing of them is held.

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
    is_vector : bool
        True if there is one column and each row is a single value.
    beside : callable, optional
        A function of the name and the purpose of another column, which returns its values. It is
        not pickled: only the process that made the source can call it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    # Row groups between rows that a filter keeps are not decoded.
    worth_passing_over = 2**13

    def __init__(
        self,
        files: Listed,
        lengths: Any,
        columns: Sequence[tuple[str, int | None]],
        dtype: np.dtype[Any],
        *,
        is_vector: bool = False,
        beside: Callable[[str, str], RowSource] | None = None,
    ) -> None:
        self.files, self.columns, self.dtype = files, tuple(columns), dtype
        self.is_vector, self.beside = is_vector, beside
        self.starts = np.array([0, *accumulate(map(int, lengths))], np.int64)
        self._ends = np.array([0, *accumulate(width or 1 for _, width in columns)], np.int64)
        n_rows = int(self.starts[-1])
        self.shape = (n_rows,) if is_vector else (n_rows, int(self._ends[-1]))
        self._state_bytes = state_bytes(files, len(self.columns))
        # Values of a partition travel along: they are one for each file.
        self._partitions = {
            name: values for name, values in partitions(files).items() if name in dict(self.columns)
        }

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.files, np.diff(self.starts), self.columns, self.dtype)
        return _unpickled, (*state, self.is_vector, self._partitions, self._state_bytes)

    def vector(self, number: int = 0) -> ParquetSource:
        """Return one of the columns as a source of single values."""
        return ParquetSource(
            self.files, np.diff(self.starts), self.columns[number : number + 1], self.dtype,
            is_vector=True,
        )  # fmt: skip

    def with_beside(self, beside: Callable[[str, str], RowSource]) -> ParquetSource:
        """Return the same rows, with access to the other columns of their table."""
        lengths = np.diff(self.starts)
        return ParquetSource(self.files, lengths, self.columns, self.dtype, beside=beside)

    @property
    def copies(self) -> int:
        """Return the number of extra copies of a batch that exist while it is read."""
        piece = min(READ_BYTES, max(1, self.shape[0] * self.row_bytes))
        return 1 + -(-self._state_bytes // piece)

    @property
    def variable_name(self) -> str | None:
        """Return the name of the column where each row is one value."""
        return self.columns[0][0] if self.is_vector else None

    def content(self) -> Any:
        """Return a key that is equal for equal files and columns."""
        return self.stamp()

    def stamp(self) -> Any:
        """Return a stamp that changes with the files."""
        return identity_of(self.files, (self.columns, self.is_vector))

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

    def _read(self, start: int, stop: int, wanted: Sequence[int]) -> Array:
        """Read the rows from start up to stop of some columns, by their numbers."""
        columns = [self.columns[number] for number in wanted]
        out = np.empty((stop - start, sum(width or 1 for _, width in columns)), self.dtype)
        names = tuple(name for name, _ in columns)
        for i, a, b in self._files(start, stop):
            at = int(self.starts[i]) + a - start
            path = self.files.path(i)
            with reading_rows(path, a, b):
                for row, batch in self._batches(i, a, b, names):
                    rows = out[at : at + len(batch)]
                    self._fill(rows, batch, columns, path, row)
                    at += len(batch)
        return out

    def _fill(self, rows: Array, batch: Any, columns: Any, path: str, row: int) -> None:
        """Write the values of a batch into rows; row is the number of the first in its file."""
        at = 0
        for name, width in columns:
            column = batch.column(name)
            held = _kind(column.type, width)
            # Rows are counted from 1 in messages about a file.
            values = values_of(column, held, self.dtype, f"{path}: column {name!r}", row + 1)
            rows[:, at : at + held.n_features] = values.reshape(len(batch), -1)
            at += held.n_features

    def _files(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the numbers of the files that hold rows, with the range of rows in each."""
        i = int(np.searchsorted(self.starts, start, side="right")) - 1
        while start < stop:
            end = min(stop, int(self.starts[i + 1]))
            if start < end:
                first = int(self.starts[i])
                yield i, start - first, end - first
                start = end
            i += 1

    def arrow(self, start: int, stop: int, names: Sequence[str]) -> Iterator[Any]:
        """Yield any columns of rows, partitions too, as record batches of their own types.

        Raises
        ------
        DataSetError
            When a file cannot be read.
        """
        for i, a, b in self._files(start, stop):
            with reading_rows(self.files.path(i), a, b):
                for _, batch in self._batches(i, a, b, tuple(names)):
                    yield batch

    def _batches(
        self, i: int, start: int, stop: int, names: tuple[str, ...]
    ) -> Iterator[tuple[int, Any]]:
        """Yield rows of one file as record batches, each with the number of its first row."""
        import pyarrow as pa

        # A worker knows the partitions of the source's own columns; others need the footers.
        own = dict(self.columns)
        known = self._partitions if all(n in own for n in names) else partitions(self.files)
        stored = tuple(name for name in names if name not in known)
        size = self._batch_rows(len(stored))
        # Without a column of the file there is nothing to open: the partitions' values are known.
        rows = _plain(start, stop, size)
        if stored:
            n_rows = int(self.starts[i + 1] - self.starts[i])
            rows = _stored(self.files, i, n_rows, (stored, size), start, stop)
        for row, n, batch in rows:
            columns = [
                batch.column(name) if name in stored else pa.repeat(known[name][i], n)
                for name in names
            ]
            yield row, pa.RecordBatch.from_arrays(columns, list(names))

    def _batch_rows(self, n_columns: int) -> int:
        widths = sum(width or 1 for _, width in self.columns)
        row_bytes = max(1, widths // max(1, len(self.columns))) * max(1, n_columns) * 8
        return max(1, min(2**16, _BATCH_BYTES // row_bytes))

    def matching(
        self, condition: Callable[[pa.Schema], Any], start: int = 0, stop: int | None = None
    ) -> list[Any]:
        """Return the ranges of rows that may satisfy a condition, by statistics and partitions.

        Only footers are read. Ranges are in order, none touches the next, and each is of whole
        row groups within start and stop.

        Parameters
        ----------
        condition : callable
            Makes the expression of ``pyarrow.compute`` for the schema of a file with its
            partitions; files may have columns of unlike types.

        Returns
        -------
        list of (start, stop)
        """
        from pyarrow import dataset

        stop = self.shape[0] if stop is None else stop
        kinds = dataset.ParquetFileFormat()
        known = partitions(self.files)
        found: list[Any] = []
        for i, a, b in self._files(start, stop):
            first = int(self.starts[i])
            for x, y in _groups(kinds, self.files, i, known, condition):
                x, y = first + max(x, a), first + min(y, b)
                if x >= y:
                    continue
                if found and found[-1][1] == x:
                    x = found.pop()[0]
                found.append((x, y))
        return found


def _unpickled(
    files: Listed, lengths: Any, columns: Any, dtype: Any, is_vector: bool, held: Any, state: int
) -> ParquetSource:
    """Return a source in a worker, which needs no footers to read."""
    source = ParquetSource.__new__(ParquetSource)
    source.files, source.columns, source.dtype = files, columns, dtype
    source.is_vector, source.beside, source._partitions = is_vector, None, held
    source._state_bytes = state
    source.starts = np.array([0, *accumulate(map(int, lengths))], np.int64)
    source._ends = np.array([0, *accumulate(width or 1 for _, width in columns)], np.int64)
    n_rows = int(source.starts[-1])
    source.shape = (n_rows,) if is_vector else (n_rows, int(source._ends[-1]))
    return source


def _kind(kind: Any, width: int | None) -> Column:
    """Return the kind of a column as it is read; lists that are missing throughout have a width."""
    if width == len(Points.names) and holds_points(kind):
        return column_of_points(Points())
    found = column_of_type(kind, may_miss=True, length=width)
    return found if width is None else replace(found, width=width)


def _groups(
    kinds: Any, files: Listed, i: int, known: Any, condition: Callable[[pa.Schema], Any]
) -> list[tuple[int, int]]:
    """Return the row groups of a file that may satisfy a condition, as ranges of its rows."""
    import pyarrow as pa
    from pyarrow import compute as pc
    from pyarrow import parquet

    # The values of the partitions hold for every row of the file.
    guarantee = None
    for name, values in known.items():
        value = values[i]
        here = pc.field(name)
        one = here == value if value.is_valid else here.is_null()
        guarantee = one if guarantee is None else guarantee & one
    tail, _ = tail_of(files, i)
    starts = _group_starts(parquet.read_metadata(pa.BufferReader(tail)))
    # The end of the file is enough, as only its footer is read.
    fragment = kinds.make_fragment(pa.BufferReader(tail), partition_expression=guarantee)
    schema = with_partitions(fragment.physical_schema, known)
    pieces = fragment.split_by_row_group(condition(schema), schema=schema)
    numbers = [group.id for piece in pieces for group in piece.row_groups]
    return [(starts[k], starts[k + 1]) for k in sorted(numbers)]


def with_partitions(schema: pa.Schema, known: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of a file with its partitions, which replace columns of their names."""
    import pyarrow as pa

    fields = [field for field in schema if field.name not in known]
    return pa.schema([*fields, *(pa.field(name, values.type) for name, values in known.items())])


def _group_starts(metadata: Any) -> list[int]:
    """Return the first row of each row group, and the number of rows."""
    sizes = (metadata.row_group(k).num_rows for k in range(metadata.num_row_groups))
    return [0, *accumulate(sizes)]


def _plain(start: int, stop: int, size: int) -> Iterator[tuple[int, int, Any]]:
    """Yield ranges of rows without columns: their first rows and lengths."""
    for row in range(start, stop, size):
        yield row, min(size, stop - row), None


def _stored(
    files: Listed, i: int, n_rows: int, asked: tuple[tuple[str, ...], int], start: int, stop: int
) -> Iterator[tuple[int, int, Any]]:
    """Yield record batches of stored columns from start up to stop, from a reader kept open."""
    with _reader(files, i, n_rows, asked, start) as reader:
        for batch in reader.rows(start, stop):
            yield start, len(batch), batch
            start += len(batch)


class _Reader:
    """A file from which rows are read in order, and where it is."""

    def __init__(self, files: Listed, i: int, n_rows: int, names: Sequence[str], size: int) -> None:
        self._path, self._names, self._size = files.path(i), list(names), size
        self._file = opened(files, i, len(names))
        self._starts = _group_starts(self._file.metadata)
        if self._starts[-1] != n_rows:
            self._file.close(force=True)
            raise DataSetError(
                f"{self._path}: had {n_rows} rows and has {self._starts[-1]}; it changed since it "
                "was opened, open it again"
            )
        self.row = 0  # the next row
        self._batches: Iterator[Any] | None = None
        self._rest: Any = None

    @property
    def is_done(self) -> bool:
        """Return whether no row is left."""
        return self.row >= self._starts[-1]

    def distance(self, row: int) -> int:
        """Return how many rows have to be decoded and passed over to come to a row."""
        group = self._starts[bisect_right(self._starts, row) - 1]
        return row - max(self.row, group) if self.row <= row else row - group

    def rows(self, start: int, stop: int) -> Iterator[Any]:
        """Yield record batches from start up to stop."""
        self._move(start)
        while self.row < stop:
            batch = self._next()
            kept = batch.slice(0, stop - self.row)
            if len(kept) < len(batch):
                self._rest = batch.slice(len(kept))
            self.row += len(kept)
            yield kept

    def _move(self, start: int) -> None:
        """Go to a row, by way of the first row of its group where that is nearer."""
        group = bisect_right(self._starts, start) - 1
        # Row groups without rows begin where the next one does.
        if self._batches is None or start < self.row or self._starts[group] > self.row:
            self._batches = self._file.iter_batches(
                self._size, row_groups=list(range(group, len(self._starts) - 1)),
                columns=self._names, use_threads=False,
            )  # fmt: skip
            self.row, self._rest = self._starts[group], None
        while self.row < start:
            batch = self._next()
            passed = min(len(batch), start - self.row)
            if passed < len(batch):
                self._rest = batch.slice(passed)
            self.row += passed

    def _next(self) -> Any:
        """Return the next batch, or what is left of the last one."""
        assert self._batches is not None
        batch, self._rest = self._rest, None
        while batch is None or not len(batch):
            batch = next(self._batches, None)
            if batch is None:
                raise DataSetError(f"{self._path}: ends before its last row; fetch it again")
        return batch

    def close(self) -> None:
        """Close the file."""
        self._batches = self._rest = None
        self._file.close(force=True)


@dataclass(frozen=True)
class _Waiting:
    """A reader that waits for its next rows, with its file and columns, and who read last."""

    key: tuple[Any, ...]
    reader: _Reader
    thread: Thread


# The oldest first. Each holds a few pages of its file, so they are few: one for each thread and
# columns, and a few more.
_waiting: list[_Waiting] = []
_lock = Lock()


@contextmanager
def _reader(
    files: Listed, i: int, n_rows: int, asked: tuple[tuple[str, ...], int], row: int
) -> Iterator[_Reader]:
    """Lend the reader that is nearest before a row, or a new one."""
    # A process that was forked must not move in the files of the other.
    key = (os.getpid(), files.path(i), files.sizes[i], files.tags[i], *asked)
    with _lock:
        known = [each for each in _waiting if each.key == key]
        nearest = min(known, key=lambda each: each.reader.distance(row), default=None)
        if nearest is not None:
            _waiting.remove(nearest)
    reader = _Reader(files, i, n_rows, *asked) if nearest is None else nearest.reader
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
            *(each for each in _waiting if each.thread is own and each.key[-2:] == asked),
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
