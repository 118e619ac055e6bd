"""Rows of a lazy Dask array: the part of its graph that a range needs, run inside the task."""

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

    As nodes of the graph, chunks of both sides would stay in memory while any block needs
    them: all of them, soon. So a task gets the array itself, which is small, and computes the
    rows that it reads, on its own thread. Masked values become NaN; integers that may be masked
    are float64 for that.

    Not a dataclass: Dask looks into those for collections, and would make nodes of this one.

    Raises
    ------
    ClusterError
        When chunks of the array are results on a cluster (``persist()``): a task that waited
        for them could wait for its own thread.
    """

    copies = 4  # the input and the output of the graph's last steps as well
    is_lazy = True

    def __init__(self, array: da.Array) -> None:
        self.array = array if array.ndim == 1 else array.rechunk({1: -1})
        self.masks = is_lazily_masked(array)
        refuse_held(self.array)
        values = _values(self.array)
        self._held = sum(v.nbytes for v in values if isinstance(v, np.ndarray))

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskSource, (self.array,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return holding_missing(super().dtype) if self.masks else super().dtype

    @property
    def resident_bytes(self) -> int:
        """Bytes that it holds in memory."""
        return self._held

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return self.array.name

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the array, whose values may be smaller than those that are read."""
        return int(self.array.dtype.itemsize * prod(self.shape[1:]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the axes along which rows lie."""
        return self.shape[:1]

    @property
    def borders(self) -> tuple[Borders, ...]:
        """Where chunks begin."""
        return (begins(self.array.chunks[0]),)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        values = self.array[start:stop].compute(scheduler="synchronous")
        if self.dtype.kind != "f":  # which nothing said would be masked, and cannot be NaN
            refuse_masked(values, start)
        found = unmasked(values)
        if self.masks and found.dtype.kind in "iu":  # of a chunk in which none is masked
            check_exact(found, "a Dask array, some of whose values may be masked", start)
        return found.astype(self.dtype, copy=False) if self.masks else found


def refuse_held(array: da.Array) -> None:
    """Refuse an array whose chunks a cluster holds.

    Raises
    ------
    ClusterError
    """
    if any(map(_is_future, _values(array))):
        raise ClusterError(
            f"the Dask array of shape {array.shape} has chunks that a cluster holds "
            "(persist(), scatter()), which tasks cannot read; pass the array from before, "
            "or write it to Zarr"
        )


def _values(array: da.Array) -> Iterator[Any]:
    """Return the graph's values that are not tasks; lazy layers stay lazy."""
    for layer in array.__dask_graph__().layers.values():
        if layer.is_materialized():
            # Some are wrapped as nodes, with what they hold as their value.
            yield from (getattr(value, "value", value) for value in layer.values())


def _is_future(value: Any) -> bool:
    # Who has not imported distributed, which takes a while, has no future.
    return "distributed" in sys.modules and isinstance(value, sys.modules["distributed"].Future)


def refuse_masked(values: Any, start: int = 0) -> None:
    """Refuse masked values in rows start, start + 1, ... of a source.

    Raises
    ------
    InputError
    """
    place = first_masked(values)
    if place is not None:
        row, *column = place
        where = f"row {start + row}" + (f", column {column[0]}" if column else "")
        raise InputError(
            f"{where} is masked; densities need all values: drop such rows or fill them"
        )
