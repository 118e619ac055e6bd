"""Rows of CSV files, read by tasks block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from dkde.errors import DataSetError
from dkde.rows.arrow_values import Column
from dkde.rows.csv_blocks import Blocks, parsed
from dkde.rows.csv_files import bytes_ahead, content_of
from dkde.rows.csv_layout import Layout
from dkde.rows.csv_reading import TextPlace, arrow_type
from dkde.rows.kept_readers import lent
from dkde.rows.row_source import RowSource
from dkde.rows.table_files import TableFiles
from dkde.stores.listed_files import Listed, Url


class CsvSource(TableFiles):
    """Columns of CSV files as rows; nothing of them is held.

    Parameters
    ----------
    files : Listed
        The files, in the order of their rows.
    blocks : Blocks
        Their blocks.
    layouts : tuple of Layout
        The layout of each file.
    columns : sequence of str
        The names of the columns.
    kinds : tuple of tuple of Column
        For each file, the kinds of these columns.
    is_vector : bool
        True if there is one column and each row is a single value.
    beside : callable, optional
        A function of the name and the purpose of another column, which returns its values. It is
        not pickled: only the process that made the source can call it.
    others : callable, optional
        A function of the names of any columns, of text or times too, which returns them as another
        source, to be read by :meth:`arrow`. It is not pickled either.
    """

    # Blocks between rows that a filter keeps are not read.
    worth_passing_over = 2**16

    def __init__(
        self,
        files: Listed,
        blocks: Blocks,
        layouts: tuple[Layout, ...],
        columns: Sequence[str],
        kinds: tuple[tuple[Column, ...], ...],
        *,
        is_vector: bool = False,
        beside: Callable[[str, str], RowSource] | None = None,
        others: Callable[[Sequence[str]], CsvSource] | None = None,
    ) -> None:
        self.blocks, self.layouts, self.kinds = blocks, layouts, kinds
        self.beside, self.others = beside, others
        names = [(name, None) for name in columns]
        state = _state_bytes(files, blocks, layouts, len(names))
        super().__init__(files, blocks.lengths, names, np.dtype(np.float64), state, is_vector)

    def __reduce__(self) -> tuple[Any, ...]:
        names = tuple(name for name, _ in self.columns)
        return _unpickled, (
            self.files, self.blocks, self.layouts, names, self.kinds, self.is_vector
        )  # fmt: skip

    def _with(self, **more: Any) -> CsvSource:
        names = [name for name, _ in self.columns]
        return CsvSource(self.files, self.blocks, self.layouts, names, self.kinds, **more)

    def vector(self) -> CsvSource:
        """Return the first column as a source of single values."""
        return self._with(is_vector=True)

    def with_beside(self, beside: Callable[[str, str], RowSource]) -> CsvSource:
        """Return the same rows, with access to the other columns of their table."""
        return self._with(beside=beside, others=self.others)

    def stamp(self) -> Any:
        """Return a stamp that changes with the files."""
        return (*self.files.stamp(), self.columns, self.is_vector)

    def _held(self, i: int, name: str, kind: Any, width: int | None) -> Column:
        number = next(k for k, (each, _) in enumerate(self.columns) if each == name)
        return self.kinds[i][number]

    def _batches(
        self, i: int, start: int, stop: int, names: tuple[str, ...]
    ) -> Iterator[tuple[int, Any]]:
        """Yield rows of one file as record batches, each with the number of its first row."""
        known = dict(zip((name for name, _ in self.columns), self.kinds[i], strict=True))
        types = tuple((name, arrow_type(known[name])) for name in names)
        make = partial(_Reader, self.files, i, self.layouts[i], self.blocks, types)
        with lent(self.files, i, types, start, make) as reader:
            for batch in reader.rows(start, stop):
                yield start, batch
                start += len(batch)


def _unpickled(
    files: Listed, blocks: Blocks, layouts: Any, names: Any, kinds: Any, is_vector: bool
) -> CsvSource:
    return CsvSource(files, blocks, layouts, names, kinds, is_vector=is_vector)


def _state_bytes(files: Listed, blocks: Blocks, layouts: Sequence[Layout], n_columns: int) -> int:
    """Return the bytes that a thread holds while it reads: a block as text and as values."""
    if not len(blocks.sizes):
        return 0
    text, rows = int(blocks.sizes.max()), int(blocks.rows.max())
    ahead = bytes_ahead(files, any(each.is_gzipped for each in layouts))
    # The text as it is read, checked and taken over by pyarrow, and where its cells begin (a cell
    # has at least two bytes); the values in pyarrow's arrays, which the reader keeps.
    return ahead + 6 * text + 2 * 8 * rows * n_columns


class _Reader:
    """A file of which blocks are read, and the block that was read last."""

    def __init__(
        self, files: Listed, i: int, layout: Layout, blocks: Blocks, types: tuple[Any, ...]
    ) -> None:
        self._path, self._layout, self._types = files.path(i), layout, dict(types)
        self._offsets, self._starts = blocks.of_file(i)
        self._file = content_of(files, i, layout.is_gzipped)
        self.row = 0  # the next row
        self._number, self._block = -1, None  # the block that is kept

    @property
    def is_done(self) -> bool:
        """Return whether no row is left."""
        return self.row >= int(self._starts[-1])

    def distance(self, row: int) -> int:
        """Return how many rows have to be passed over to come to a row."""
        if not self._layout.is_gzipped:
            return int(self._block is None or self._number != self._owner(row))
        return row - self.row if self.row <= row else row

    def _owner(self, row: int) -> int:
        """Return the number of the block that holds a row."""
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def rows(self, start: int, stop: int) -> Iterator[Any]:
        """Yield record batches from start up to stop."""
        self.row = start
        while self.row < stop:
            number = self._owner(self.row)
            first, end = map(int, self._starts[number : number + 2])
            batch = self._read(number)
            kept = batch.slice(self.row - first, min(stop, end) - self.row)
            self.row += len(kept)
            if self.row == end:
                self._block = None
            yield kept

    def _read(self, number: int) -> Any:
        """Return the rows of a block, which are kept until they are all given."""
        if self._block is not None and self._number == number:
            return self._block
        self._block = None
        offset, end = map(int, self._offsets[number : number + 2])
        if self._file.tell() != offset:
            self._file.seek(offset)
        text = self._file.read(end - offset)
        first, after = map(int, self._starts[number : number + 2])
        path = Url(self._path)
        place = TextPlace(path, self._layout, first, has_header=number == 0)
        batch = parsed(text, place, self._types)
        if len(text) < end - offset or batch is None or len(batch) != after - first:
            raise DataSetError(
                f"{self._path}: has other rows than when it was opened; open it again"
            )
        self._number, self._block = number, batch
        return batch

    def close(self) -> None:
        """Close the file."""
        self._block = None
        self._file.close()
