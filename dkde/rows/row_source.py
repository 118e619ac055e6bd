"""Sources of rows, and the steps that change rows as they are read.

A new kind of container is a class with three answers: a range of rows (``read``), the borders of
its chunks (``chunk_rows``, or ``sizes`` and ``borders``), and a key that changes with its content
(``content`` and ``stamp``). Choosing columns, decoding and the like are steps, which wrap any
source.

``read`` raises DataSetError, with the name of the file or store, for any fault of it. A source
that runs a user's own graph (`dkde.rows.dask_source`) raises the errors of the graph.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from dkde.errors import DataSetError, DkdeError, one_line
from dkde.rows.boxes import Borders, Grain
from dkde.stores.limits import check_unpacked
from dkde.typing import Array

# Small chunks are read together up to this size, so that the cost of a call is small beside it.
READ_BYTES = 8 * 2**20
# A slab of a grid's whole chunks is read at once up to this size. A longer slab is read in pieces,
# and its chunks more than once, which costs time but bounds the memory.
SLAB_BYTES = 8 * READ_BYTES

# The bytes that a feature takes: its values in float64, its name and its unit as Python's objects.
_FEATURE_BYTES = 128


class RowSource:
    """A source with rows along its first axis; the defaults are those of rows in memory."""

    if TYPE_CHECKING:  # a field in some subclasses, a property in others

        @property
        def shape(self) -> tuple[int, ...]:
            """Return the shape of the rows."""

        @property
        def dtype(self) -> np.dtype[Any]:
            """Return the dtype of the values."""

    # The bytes of rows, in float64, that a panel of training rows should not exceed, where reading
    # them takes a worker much memory beside; None where a plan may choose.
    panel_bytes: int | None = None
    # True if some values may be masked, and the index of the first masked value where it is known.
    masks: bool = False
    masked: tuple[int, ...] | None = None
    # A function of the name and the purpose of another variable, which returns its values for the
    # same rows. None where a source has no other variables.
    beside: "Callable[[str, str], RowSource] | None" = None
    # A function of the name of any other variable, of text or times too, as it is stored. Where
    # there is no such variable it raises NoVariableError.
    named: "Callable[[str], RowSource] | None" = None
    # The number of rows from which passing over them is cheaper than reading them; None where
    # pieces are read whole.
    worth_passing_over: int | None = None
    # The rows that a filter keeps, where the source has only these (`dkde.rows.filtered`).
    kept: "Any" = None

    def read(self, start: int, stop: int) -> Array:
        """Return the rows from start up to stop, as they are stored."""
        raise NotImplementedError

    def read_columns(self, start: int, stop: int, columns: Sequence[int]) -> Array:
        """Return some columns of the rows from start up to stop."""
        return np.ascontiguousarray(self.read(start, stop)[:, columns])

    @property
    def chunk_rows(self) -> int:
        """Return the number of rows in a chunk, where all chunks have the same."""
        return 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the lengths of the axes along which rows lie."""
        return (sys.maxsize,)  # longer than any source: chunks are joined by size alone

    @property
    def borders(self) -> tuple[Borders, ...]:
        """Return the first index of each chunk along each of these axes."""
        return (range(0, sys.maxsize, self.chunk_rows),)

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row as stored, which decide how many chunks are read together."""
        return self.dtype.itemsize * prod(self.shape[1:])

    def bytes_read(self, start: int, stop: int) -> int:
        """Return the uncompressed bytes that reading a range takes; 0 of rows in memory."""
        return 0 if self.resident_bytes else (stop - start) * self.row_bytes

    @cached_property
    def grain(self) -> Grain:
        """Return the best cuts for reading: chunk borders, or runs of several chunks."""
        row_bytes = max(1, self.row_bytes)  # text of length 0 has none
        most, worth = (max(1, n // row_bytes) for n in (SLAB_BYTES, READ_BYTES))
        return Grain.of(self.sizes, self.borders, most, worth)

    @property
    def read_rows(self) -> int:
        """Return the largest number of rows that ``cuts`` leaves together."""
        return self.grain.longest

    def cuts(self, start: int, stop: int) -> list[int]:
        """Return start, the chunk borders at which reading is best cut, and stop."""
        return self.grain.cuts(start, stop)

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        # Sources with several axes answer this themselves.
        (size,), (borders,) = self.sizes, self.borders
        return Grain(size, 1, borders).piece_of(rows)

    @property
    def copies(self) -> int:
        """Return the number of extra copies of a batch that exist while it is read."""
        return 0

    @property
    def resident_bytes(self) -> int:
        """Return the bytes of values in memory that the source takes along to a worker."""
        return 0

    @property
    def is_held(self) -> bool:
        """Return whether all values are in memory, or follow from values that are."""
        return self.resident_bytes >= self.shape[0] * self.row_bytes

    @property
    def is_lazy(self) -> bool:
        """Return whether values must be computed first: even a sample may take long, or fail."""
        return False

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return a key of the changes made to the stored values."""
        return ()

    def owned(self) -> "RowSource":
        """Return the same values, where those in a caller's memory are copies of them."""
        return self

    def content(self) -> Any:
        """Return a key that is equal for equal values; a file or store gets a new key each time."""
        return uuid4().hex

    def stamp(self) -> Any:
        """Return a stamp that changes with the values, without reading a file or a store."""
        return self.content()

    def former_stamp(self) -> Any:
        """Return the stamp that older versions recorded, where they loaded what is read now."""
        return self.stamp()

    def row_name(self, row: int) -> str:
        """Return the name of a row in messages: ``row 220``."""
        return f"row {row}"

    @property
    def variable_name(self) -> str | None:
        """Return the variable's name where each row is one value and it has a name."""
        return None


class Step:
    """A change made to each row as it is read; the defaults change nothing."""

    # The names of the columns before the step, where those after it are others.
    features: tuple[str, ...] | None = None

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return a key of the change that this makes: a part of the rows' identity."""
        return ()

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape after the step of rows with this shape before it."""
        return shape

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype after the step of values with this dtype before it."""
        return dtype

    def copies(self, copies: int, n_columns: int) -> int:
        """Return the number of extra copies after the step.

        Parameters
        ----------
        copies : int
            The number of extra copies that reading from the source makes.
        n_columns : int
            The number of columns before the step.
        """
        return copies

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the rows after the step.

        Parameters
        ----------
        rows : array (rows, ...)
            The rows as the source gives them.
        start : int
            The number of the first row in the source.
        source : RowSource
            The source, which names rows in messages.
        """
        raise NotImplementedError

    def read(self, start: int, stop: int, source: RowSource) -> Array:
        """Read rows of a source, and return them after the step."""
        return self.apply(source.read(start, stop), start, source)


@dataclass(frozen=True, eq=False)
class Derived(RowSource):
    """The rows of another source, changed by a step as they are read."""

    wrapped: RowSource
    step: Step

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return self.step.shape(self.wrapped.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.step.dtype(self.wrapped.dtype)

    @property
    def copies(self) -> int:
        """Return the number of extra copies of a batch that exist while it is read."""
        return self.step.copies(self.wrapped.copies, prod(self.wrapped.shape[1:]))

    @property
    def worth_passing_over(self) -> int | None:  # type: ignore[override]
        """Return the number of rows from which passing over them is cheaper than reading them."""
        return self.wrapped.worth_passing_over

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return a key of the changes made to the stored values."""
        return (*self.wrapped.changes, *self.step.changes)

    def read(self, start: int, stop: int) -> Array:
        """Return the rows from start up to stop, as the step makes them."""
        return self.step.read(start, stop, self.wrapped)

    # A step keeps the number and the order of rows: cuts, chunks and names are those below.
    def bytes_read(self, start: int, stop: int) -> int:
        """Return the uncompressed bytes that reading a range takes, of the source below."""
        return self.wrapped.bytes_read(start, stop)

    @property
    def grain(self) -> Grain:
        """Return the best cuts for reading, which are those of the source below."""
        return self.wrapped.grain

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return self.wrapped.chunk_of(rows)

    @property
    def resident_bytes(self) -> int:
        """Return the bytes of values that the source holds in memory."""
        return self.wrapped.resident_bytes

    @property
    def is_held(self) -> bool:
        """Return whether all values are in memory, or follow from values that are."""
        return self.wrapped.is_held

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return self.wrapped.is_lazy

    def owned(self) -> RowSource:
        """Return the same values, where those in a caller's memory are copies of them."""
        return replace(self, wrapped=self.wrapped.owned())

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return self.wrapped.content(), self.changes

    def stamp(self) -> Any:
        """Return a stamp that changes with the values."""
        return self.wrapped.stamp(), self.changes

    def former_stamp(self) -> Any:
        """Return the stamp that older versions recorded."""
        return self.wrapped.former_stamp(), self.changes

    def row_name(self, row: int) -> str:
        """Return the name of a row in messages."""
        return self.wrapped.row_name(row)

    @property
    def variable_name(self) -> str | None:
        """Return the variable's name where each row is one value and it has a name."""
        return self.wrapped.variable_name


def innermost(source: RowSource) -> RowSource:
    """Return the source below all steps, which reads the stored values."""
    return innermost(source.wrapped) if isinstance(source, Derived) else source


def foundation(source: RowSource) -> RowSource:
    """Return the source below all steps and filters, which has the place of the values."""
    found = innermost(source)
    below = None if found.kept is None else getattr(found, "wrapped", None)
    return found if below is None else foundation(below)


def check_row(where: str, n_features: int) -> None:
    """Refuse rows of a file of which a single one, with its names, would fill the memory.

    A file can declare any shape without a value stored.

    Raises
    ------
    DataSetError
    """
    check_unpacked(where, f"a row of {n_features} values", n_features * _FEATURE_BYTES, 0)


@contextmanager
def reading_rows(where: str | Path, start: int, stop: int) -> Iterator[None]:
    """Turn any error of reading into a DataSetError that names the place and the rows.

    Errors of dkde, a MemoryError and warnings pass: the data are not at fault.
    """
    try:
        yield
    except (DkdeError, MemoryError, Warning):  # users can turn warnings into errors
        raise
    except Exception as error:
        raise DataSetError(
            f"{where}: rows {start} to {stop} could not be read ({one_line(error)}); the data are "
            "damaged or out of reach, put them back or import them again"
        ) from error
