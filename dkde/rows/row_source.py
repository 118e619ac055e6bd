"""Sources of rows, and the steps that are taken as rows are read.

A new kind of container is a class of three answers: a piece (``read``), where its chunks begin
(``chunk_rows``, or ``sizes`` and ``borders``), and what changes with its content (``content`` and
``stamp``). Choosing columns, decoding and the like are steps, which go round any source.

Reading a source raises DataSetError for any fault of a file or store, and names it. A
source that runs a user's own graph (`dkde.rows.dask_source`) raises what that raises.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from dkde.errors import DataSetError, DkdeError, one_line
from dkde.rows.boxes import Borders, Grain
from dkde.typing import Array

# What is read at a time where chunks are small: enough to make the call worth while.
READ_BYTES = 8 * 2**20
# A slab of whole chunks of a grid is read at a time up to this; a longer one in pieces, more than
# once.
SLAB_BYTES = 8 * READ_BYTES


class RowSource:
    """Something with rows along its first axis; the defaults are those of rows in memory."""

    if TYPE_CHECKING:  # a field of some, made of what they hold in others

        @property
        def shape(self) -> tuple[int, ...]:
            """Shape of the rows."""

        @property
        def dtype(self) -> np.dtype[Any]:
            """Dtype of the values."""

    # Whether some values may be masked, and the place of the first that was, where that is known.
    masks: bool = False
    masked: tuple[int, ...] | None = None
    # From the name of another variable, and what it is for, to its values for the same rows.
    beside: "Callable[[str, str], RowSource] | None" = None

    def read(self, start: int, stop: int) -> Array:
        """Rows start up to stop, as they are stored."""
        raise NotImplementedError

    @property
    def chunk_rows(self) -> int:
        """Number of rows in a chunk, where all chunks are as long."""
        return 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the axes along which rows lie."""
        return (sys.maxsize,)  # even chunks are read together however few there are

    @property
    def borders(self) -> tuple[Borders, ...]:
        """Where chunks begin along each of these axes."""
        return (range(0, sys.maxsize, self.chunk_rows),)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, by which chunks are read together."""
        return self.dtype.itemsize * prod(self.shape[1:])

    @cached_property
    def grain(self) -> Grain:
        """Where reading is best cut."""
        row_bytes = max(1, self.row_bytes)
        most, worth = (max(1, n // row_bytes) for n in (SLAB_BYTES, READ_BYTES))
        return Grain.of(self.sizes, self.borders, most, worth)

    @property
    def read_rows(self) -> int:
        """Number of rows that ``cuts`` leaves together, at most."""
        return self.grain.longest

    def cuts(self, start: int, stop: int) -> list[int]:
        """start, stop and the rows between at which reading is best cut: chunk borders."""
        return self.grain.cuts(start, stop)

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        (size,), (borders,) = self.sizes, self.borders
        return Grain(size, 1, borders).piece_of(rows)

    @property
    def copies(self) -> int:
        """Number of extra copies of a batch that exist while it is read."""
        return 0

    @property
    def resident_bytes(self) -> int:
        """Bytes of values that it holds in memory, wherever it is."""
        return 0

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed: a sample may take long, or fail."""
        return False

    @property
    def changes(self) -> tuple[Any, ...]:
        """Changes made to the stored values."""
        return ()

    def content(self) -> Any:
        """Return a key equal for equal values, but never for a file or a store."""
        return uuid4().hex

    def stamp(self) -> Any:
        """Return a stamp that changes with the values; a file or store is not read."""
        return self.content()

    def row_name(self, row: int) -> str:
        """Return the name of a row in messages: ``row 220``."""
        return f"row {row}"

    @property
    def variable_name(self) -> str | None:
        """The name of what has one value a row, if it has one."""
        return None


class Step:
    """Something made of each row as it is read; the defaults change nothing."""

    # The names of the columns that it is made of, where the rows have others.
    features: tuple[str, ...] | None = None

    @property
    def changes(self) -> tuple[Any, ...]:
        """What this makes of the values: part of what the rows are known by."""
        return ()

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that rows of a shape get."""
        return shape

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype that values of a dtype get."""
        return dtype

    def copies(self, copies: int, n_columns: int) -> int:
        """Return how many extra copies there are, of those that so many columns are read with."""
        return copies

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return what is made of rows.

        Parameters
        ----------
        rows : array (rows, ...)
        start : int
            The number of the first.
        source : RowSource
            What they were read from, for messages.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Derived(RowSource):
    """Rows that a step makes of those of another source, as they are read."""

    wrapped: RowSource
    step: Step

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return self.step.shape(self.wrapped.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.step.dtype(self.wrapped.dtype)

    @property
    def copies(self) -> int:
        """Number of extra copies of a batch that exist while it is read."""
        return self.step.copies(self.wrapped.copies, prod(self.wrapped.shape[1:]))

    @property
    def changes(self) -> tuple[Any, ...]:
        """Changes made to the stored values."""
        return (*self.wrapped.changes, *self.step.changes)

    def read(self, start: int, stop: int) -> Array:
        """Rows start up to stop, as the step makes them."""
        return self.step.apply(self.wrapped.read(start, stop), start, self.wrapped)

    @property
    def grain(self) -> Grain:
        """Where reading is best cut."""
        return self.wrapped.grain

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return self.wrapped.chunk_of(rows)

    @property
    def resident_bytes(self) -> int:
        """Bytes of values that it holds in memory."""
        return self.wrapped.resident_bytes

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return self.wrapped.is_lazy

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return self.wrapped.content(), self.changes

    def stamp(self) -> Any:
        """Return a stamp that changes with the values."""
        return self.wrapped.stamp(), self.changes

    def row_name(self, row: int) -> str:
        """Return the name of a row in messages."""
        return self.wrapped.row_name(row)

    @property
    def variable_name(self) -> str | None:
        """The name of what has one value a row, if it has one."""
        return self.wrapped.variable_name


def innermost(source: RowSource) -> RowSource:
    """The source that is read in the end."""
    return innermost(source.wrapped) if isinstance(source, Derived) else source


@contextmanager
def reading_rows(where: str | Path, start: int, stop: int) -> Iterator[None]:
    """Say where, if the rows cannot be read; a MemoryError or a warning is no fault of theirs."""
    try:
        yield
    except (DkdeError, MemoryError, Warning):  # of these the last where users make them errors
        raise
    except Exception as error:
        raise DataSetError(
            f"{where}: rows {start} to {stop} could not be read ({one_line(error)}); it is damaged "
            "or out of reach, put it back or import it again"
        ) from error
