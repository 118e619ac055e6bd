"""The protocol of a source of rows.

Reading a source raises DataSetError for any fault of a file or store, and names it. A
source that runs a user's own graph (`dkde.rows.dask_source`) raises what that raises.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

import numpy as np

from dkde.errors import DataSetError, DkdeError, one_line
from dkde.typing import Array

# What is read at a time where chunks are small: enough to make the call worth while.
READ_BYTES = 8 * 2**20


@runtime_checkable
class RowSource(Protocol):
    """Something with rows along its first axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""

    @property
    def read_rows(self) -> int:
        """Number of rows that ``cuts`` leaves together, at most."""
        ...

    def cuts(self, start: int, stop: int) -> list[int]:
        """start, stop and the rows between at which reading is best cut: chunk borders."""
        ...

    def chunk_of(self, rows: Array) -> Array:
        """The chunk that each of some rows is in, by number."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """Rows start up to stop, as they are stored."""
        ...

    @property
    def copies(self) -> int:
        """Number of extra copies of a batch that exist while it is read."""
        ...

    @property
    def resident_bytes(self) -> int:
        """Bytes of values that it holds in memory, wherever it is."""
        ...

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed: a sample may take long, or fail."""
        ...

    @property
    def changes(self) -> tuple[Any, ...]:
        """Changes made to the stored values."""
        ...

    def content(self) -> Any:
        """Return a key equal for equal values, but never for a file or a store."""
        ...

    def stamp(self) -> Any:
        """Return a stamp that changes with the values; a file or store is not read."""
        ...


class Plain:
    """The defaults of most sources: rows in memory, unchanged."""

    @property
    def copies(self) -> int:
        """Number of copies that exist while rows are read."""
        return 0

    @property
    def resident_bytes(self) -> int:
        """Bytes that it holds in memory."""
        return 0

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return False

    @property
    def changes(self) -> tuple[Any, ...]:
        """Changes made to the stored values."""
        return ()

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return uuid4().hex

    def stamp(self) -> Any:
        """Return a stamp that changes with the values."""
        return self.content()


class Wrapping:
    """A source that makes something else of each row of another one, which is ``wrapped``."""

    wrapped: RowSource

    @property
    def read_rows(self) -> int:
        """Number of rows to read at a time, at most."""
        return self.wrapped.read_rows

    def cuts(self, start: int, stop: int) -> list[int]:
        """Return the rows at which reading is best cut, between start and stop."""
        return self.wrapped.cuts(start, stop)

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return self.wrapped.chunk_of(rows)

    @property
    def copies(self) -> int:
        """Number of copies that exist while rows are read."""
        return self.wrapped.copies

    @property
    def resident_bytes(self) -> int:
        """Bytes that it holds in memory."""
        return self.wrapped.resident_bytes

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return self.wrapped.is_lazy

    @property
    def changes(self) -> tuple[Any, ...]:
        """Changes made to the stored values."""
        return self.wrapped.changes

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return self.wrapped.content(), self.changes

    def stamp(self) -> Any:
        """Return a stamp that changes with the values."""
        return self.wrapped.stamp(), self.changes


def innermost(source: RowSource) -> RowSource:
    """The source that is read in the end."""
    return innermost(source.wrapped) if isinstance(source, Wrapping) else source


@contextmanager
def reading(where: str | Path, start: int, stop: int) -> Iterator[None]:
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
