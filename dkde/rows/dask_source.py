"""Rows of a lazy Dask array: a task runs the part of the graph that its range needs."""

from collections.abc import Callable
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from dkde.errors import InputError
from dkde.numerics.exact import check_exact
from dkde.rows.as_numbers import first_masked, holding_missing, is_lazily_masked, unmasked
from dkde.rows.boxes import Borders, begins
from dkde.rows.on_cluster import computed_here, graph_values, is_future
from dkde.rows.row_source import RowSource
from dkde.rows.sources import OfArray
from dkde.typing import Array


class DaskSource(OfArray):
    """A lazy Dask array as a source of rows.

    If the chunks of both sides were nodes of the run's graph, each would stay in memory while any
    block needs it; soon all would be in memory. So a task receives the lazy array itself, which
    is small, and computes the rows that it reads on its own thread. Masked values become NaN, for
    which integers that may be masked become float64.

    This is no dataclass: Dask searches dataclasses for collections, and would turn this array
    into nodes of its graph.

    Parameters
    ----------
    array : dask.array.Array
        The rows.
    copies : int
        The number of extra copies of a batch that exist while it is computed: by default the inputs
        and outputs of the graph's last steps.
    beside : callable, optional
        A function of the name and the purpose of another column, which returns its values. It is
        not pickled: only the process that made the source can call it.
    named : callable, optional
        A function of the name of any column, which returns its values as they are. It is not
        pickled either.
    panel_bytes : int, optional
        As of any source; only the process that plans the work needs it.
    """

    is_lazy = True

    def __init__(
        self,
        array: da.Array,
        copies: int = 4,
        beside: Callable[[str, str], RowSource] | None = None,
        named: Callable[[str], RowSource] | None = None,
        panel_bytes: int | None = None,
    ) -> None:
        # A chunk must hold whole rows: with several chunks of columns each row would need them all.
        self.array = array if array.ndim == 1 else array.rechunk({1: -1})
        self.masks = is_lazily_masked(array)
        self.beside, self.named = beside, named
        self._copies, self.panel_bytes = copies, panel_bytes
        values = list(graph_values(self.array))
        self._on_cluster = any(map(is_future, values))
        # Arrays and tables in memory that the graph holds travel with every task.
        self._held = sum(map(_nbytes, values))

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskSource, (self.array, self._copies)

    @property
    def copies(self) -> int:
        """Return the number of extra copies of a batch that exist while it is read."""
        return self._copies

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return holding_missing(super().dtype) if self.masks else super().dtype

    @property
    def resident_bytes(self) -> int:
        """Return the bytes that the source holds in memory."""
        return self._held

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return self.array.name

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row in the graph's chunks; the values read may be wider."""
        return int(self.array.dtype.itemsize * prod(self.shape[1:]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the lengths of the axes along which rows lie."""
        return self.shape[:1]

    @property
    def borders(self) -> tuple[Borders, ...]:
        """Return the first row of each chunk."""
        return (begins(self.array.chunks[0]),)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        values = computed_here(self.array[start:stop], on_cluster=self._on_cluster)
        # Integers of an array that did not announce a mask cannot become NaN: the dtype is fixed.
        if self.dtype.kind != "f":
            refuse_masked(values, start)
        found = unmasked(values)
        # This chunk has no masked value and is still of integers; astype must not round them.
        if self.masks and found.dtype.kind in "iu":
            check_exact(found, "a Dask array, some of whose values may be masked", start)
        return found.astype(self.dtype, copy=False) if self.masks else found


def _nbytes(value: Any) -> int:
    """Return the bytes of an array or a table in memory; 0 for anything else."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if hasattr(value, "memory_usage") and hasattr(value, "columns"):
        return int(value.memory_usage(deep=True).sum())
    return 0


def refuse_masked(values: Any, start: int = 0) -> None:
    """Refuse masked values, naming the row: the first of the values is row ``start``.

    Raises
    ------
    InputError
        When a value is masked.
    """
    place = first_masked(values)
    if place is not None:
        row, *column = place
        where = f"row {start + row}" + (f", column {column[0]}" if column else "")
        raise InputError(
            f"{where} is masked; densities need all values: drop such rows or fill them"
        )
