"""Rows of Parquet files, read by tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dkde.errors import NoVariableError
from dkde.rows.arrow_values import Column, column_of_points, column_of_type
from dkde.rows.parquet_files import (
    coordinates_of,
    footers,
    identity_of,
    partitions,
    state_bytes,
    tail_of,
)
from dkde.rows.parquet_reader import group_starts, stored_rows
from dkde.rows.point_columns import Coordinate, column_of_batch, coordinates_in, stored_names
from dkde.rows.points import Points, holds_points
from dkde.rows.row_source import RowSource
from dkde.rows.table_files import TableFiles, batch_rows
from dkde.stores.listed_files import Listed

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetSource(TableFiles):
    """Columns of Parquet files as rows; nothing of them is held.

    Parameters
    ----------
    files, lengths, columns, dtype, is_vector
        As for :class:`TableFiles`.
    beside : callable, optional
        A function of the name and the purpose of another column, which returns its values. It is
        not pickled: only the process that made the source can call it.
    known : (mapping, mapping, int), optional
        The partitions of the columns, the points of those that are coordinates, and the bytes of
        state, where no footers are to be read.
    """

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
        known: tuple[Mapping[str, Any], Mapping[str, Coordinate], int] | None = None,
    ) -> None:
        if known is None:
            # Values of a partition travel along: they are one for each file. So do the columns of
            # points of which a coordinate is read.
            own = dict(columns)
            found = {name: each for name, each in partitions(files).items() if name in own}
            known = found, coordinates_of(files, own), state_bytes(files, len(columns))
        super().__init__(files, lengths, columns, dtype, known[2], is_vector)
        self.beside, self._partitions, self._coordinates = beside, *known[:2]

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.files, self.lengths, self.columns, self.dtype, self.is_vector)
        return _unpickled, (*state, (self._partitions, self._coordinates, self._state_bytes))

    def vector(self) -> ParquetSource:
        """Return the first column as a source of single values."""
        return ParquetSource(self.files, self.lengths, self.columns[:1], self.dtype, is_vector=True)

    def with_beside(self, beside: Callable[[str, str], RowSource]) -> ParquetSource:
        """Return the same rows, with access to the other columns of their table."""
        return ParquetSource(self.files, self.lengths, self.columns, self.dtype, beside=beside)

    def stamp(self) -> Any:
        """Return a stamp that changes with the files."""
        return identity_of(self.files, (self.columns, self.is_vector))

    def _held(self, i: int, name: str, kind: Any, width: int | None) -> Column:
        """Return the kind of a column as it is read; lists that are missing have a width too."""
        if width == len(Points.names) and holds_points(kind):
            return column_of_points(Points())
        found = column_of_type(kind, may_miss=True, length=width)
        return found if width is None else replace(found, width=width)

    def check_column(self, name: str) -> None:
        """Refuse the name of a column that the files do not have, by their footers.

        Raises
        ------
        NoVariableError
        """
        schema = with_partitions(footers(self.files)[0].schema, partitions(self.files))
        if name not in schema.names and name not in coordinates_in(schema):
            raise NoVariableError(f"{self.files.path(0)}: has no column {name!r}")

    def _batches(
        self, i: int, start: int, stop: int, names: tuple[str, ...]
    ) -> Iterator[tuple[int, Any]]:
        """Yield rows of one file as record batches, each with the number of its first row."""
        import pyarrow as pa

        # A worker knows the partitions of the source's own columns; others need the footers.
        own, known, made = dict(self.columns), self._partitions, self._coordinates
        if not all(name in own for name in names):
            known, made = partitions(self.files), coordinates_of(self.files, names)
        stored = stored_names((name for name in names if name not in known), made)
        size = batch_rows(self.columns, len(stored))
        # Without a column of the file there is nothing to open: the partitions' values are known.
        rows = _plain(start, stop, size)
        if stored:
            n_rows = int(self.starts[i + 1] - self.starts[i])
            rows = stored_rows(self.files, i, n_rows, (stored, size), start, stop)
        for row, n, batch in rows:
            decoded: dict[str, Any] = {}
            columns = [
                pa.repeat(known[name][i], n)
                if name in known
                else column_of_batch(batch, made[name], decoded, self.files.path(i), row + 1)
                if name in made
                else batch.column(name)
                for name in names
            ]
            yield row, pa.RecordBatch.from_arrays(columns, list(names))

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
        for i, a, b in self.ranges(start, stop):
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
    files: Listed, lengths: Any, columns: Any, dtype: Any, is_vector: bool, known: Any
) -> ParquetSource:
    """Return a source in a worker, which needs no footers to read."""
    return ParquetSource(files, lengths, columns, dtype, is_vector=is_vector, known=known)


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
    starts = group_starts(parquet.read_metadata(pa.BufferReader(tail)))
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
    more = [pa.field(name, values.type) for name, values in known.items()]
    return pa.schema([*fields, *more], metadata=schema.metadata)  # which tell of points


def _plain(start: int, stop: int, size: int) -> Iterator[tuple[int, int, Any]]:
    """Yield ranges of rows without columns: their first rows and lengths."""
    for row in range(start, stop, size):
        yield row, min(size, stop - row), None
