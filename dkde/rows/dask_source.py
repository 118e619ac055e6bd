"""Rows of a lazy Dask array: a task runs the part of the graph that its range needs."""

import sys
from collections.abc import Iterator
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from dkde.errors import ClusterError, InputError
from dkde.numerics.exact import check_exact
from dkde.rows.as_numbers import first_masked, holding_missing, is_lazily_masked, unmasked
from dkde.rows.boxes import Borders, begins
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

    Raises
    ------
    ClusterError
        When chunks of the array are results on a cluster (``persist()``): a task that waits for
        them may wait for a thread that it occupies itself.
    """

    copies = 4  # the inputs and outputs of the graph's last steps too
    is_lazy = True

    def __init__(self, array: da.Array) -> None:
        # A chunk must hold whole rows: with several chunks of columns each row would need them all.
        self.array = array if array.ndim == 1 else array.rechunk({1: -1})
        self.masks = is_lazily_masked(array)
        refuse_held(self.array)
        # Arrays in memory that da.from_array put into the graph travel with every task.
        values = _values(self.array)
        self._held = sum(v.nbytes for v in values if isinstance(v, np.ndarray))

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskSource, (self.array,)

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
        values = self.array[start:stop].compute(scheduler="synchronous")
        # Integers of an array that did not announce a mask cannot become NaN: the dtype is fixed.
        if self.dtype.kind != "f":
            refuse_masked(values, start)
        found = unmasked(values)
        # This chunk has no masked value and is still of integers; astype must not round them.
        if self.masks and found.dtype.kind in "iu":
            check_exact(found, "a Dask array, some of whose values may be masked", start)
        return found.astype(self.dtype, copy=False) if self.masks else found


def refuse_held(array: da.Array) -> None:
    """Refuse an array whose chunks a cluster holds.

    Raises
    ------
    ClusterError
        When the graph has futures among its values.
    """
    if any(map(_is_future, _values(array))):
        raise ClusterError(
            f"the Dask array of shape {array.shape} has chunks that a cluster holds "
            "(persist(), scatter()), which tasks cannot read; pass the array from before, "
            "or write it to Zarr"
        )


def _values(array: da.Array) -> Iterator[Any]:
    """Yield the values in the graph's materialized layers; lazy layers stay lazy."""
    for layer in array.__dask_graph__().layers.values():
        if layer.is_materialized():
            # Newer versions of Dask wrap data in nodes, which have it as their attribute value.
            yield from (getattr(value, "value", value) for value in layer.values())


def _is_future(value: Any) -> bool:
    # distributed takes long to import. If nobody has imported it, there are no futures.
    return "distributed" in sys.modules and isinstance(value, sys.modules["distributed"].Future)


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
