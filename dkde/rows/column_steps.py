"""Some of the columns of rows, as they are read; and a table in memory that has others beside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkde.rows.row_source import RowSource, Step
from dkde.rows.side import Encoding
from dkde.rows.sources import ArraySource
from dkde.typing import Array


@dataclass(frozen=True)
class Picking(Step):
    """The choice of some columns; most sources are read whole for it.

    Parameters
    ----------
    columns : tuple of int
        The positions of the chosen columns, in any order, none twice.
    names : tuple of str, optional
        The names of all columns of the rows below, chosen or not.
    """

    columns: tuple[int, ...]
    names: tuple[str, ...] | None = None

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return the chosen columns, as part of the rows' identity."""
        return (("columns", self.columns),)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return (shape[0], len(self.columns))

    def copies(self, copies: int, n_columns: int) -> int:
        """Return the number of copies, each as wide as the choice: all columns are read for it."""
        # copies + 1 arrays of n_columns exist while rows are read. In units of the chosen columns
        # this is their ratio, rounded up.
        return -(-(copies + 1) * n_columns // len(self.columns))

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the chosen columns of rows."""
        return np.ascontiguousarray(rows[:, self.columns])

    def read(self, start: int, stop: int, source: RowSource) -> Array:
        """Read the chosen columns; a source stored by columns reads no others."""
        return source.read_columns(start, stop, self.columns)


@dataclass(frozen=True)
class OneColumn(Step):
    """The choice of one decoded column: each row becomes a single value."""

    column: int
    encoding: Encoding

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return the column and its encoding."""
        return (("column", self.column, *self.encoding.changes),)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return shape[:1]

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.encoding.dtype(dtype)

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the decoded values of the column."""
        return self.encoding.decode(rows[:, self.column])

    def read(self, start: int, stop: int, source: RowSource) -> Array:
        """Read the column, decoded; a source stored by columns reads no others."""
        return self.encoding.decode(source.read_columns(start, stop, (self.column,))[:, 0])


@dataclass(frozen=True, eq=False)
class TableSource(ArraySource):
    """The chosen columns of a table in memory, with access to its other columns.

    Parameters
    ----------
    array : array (n_rows, n_columns)
    beside : callable, optional
        A function of the name and the purpose of another column, which returns its values. It is
        not pickled: only the process that made the source can call it.
    named : callable, optional
        A function of the name of any column, which returns its values as they are. It is not
        pickled either.
    """

    beside: Callable[[str, str], RowSource] | None = None
    named: Callable[[str], RowSource] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker needs the values alone. ``beside`` holds the whole table, or the file's reader.
        return ArraySource, (self.array,)
